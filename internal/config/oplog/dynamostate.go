package oplog

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/skep-dev/skep/internal/errkind"
)

// SaveSnapshot keeps data as the state after record seq: first its parts, then what leads to them. Parts of a snapshot of an earlier
// record, also one that is being saved, lead to nothing any more and go.
func (l *dynamoLog) SaveSnapshot(ctx context.Context, seq uint64, data []byte) error {
	if err := checkSnapshot(seq, data); err != nil {
		return err
	}
	h, err := l.head(ctx)
	if err != nil {
		return err
	}
	if seq > h.Seq {
		return errAhead(seq)
	}
	id := draw()
	parts, err := l.store.putParts(ctx, l.g, "t", seq, id, data)
	if err != nil {
		return fmt.Errorf("save the snapshot of record %d: %w", seq, err)
	}
	out, err := l.store.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: l.store.table,
		Item:      item{"p": text(l.g), "s": text(snapshotKey), "n": number(seq), "a": text(id), "k": number(parts)},

		ConditionExpression: aws.String("attribute_not_exists(s) OR n <= :n"), ExpressionAttributeValues: item{":n": number(seq)},
		ReturnValues: types.ReturnValueAllOld,
	})
	switch {
	case failedCondition(err):
		return l.store.removeParts(ctx, l.g, "t", seq, id)
	case err != nil:
		return fmt.Errorf("save the snapshot of record %d: %w", seq, dynamoError(ctx, err))
	}
	before := item(out.Attributes)
	if old := before.text("a"); old != "" && old != id && before.number("n") == seq {
		if err := l.store.removeParts(ctx, l.g, "t", seq, old); err != nil {
			return err
		}
	}
	return l.store.removeRange(ctx, l.g, numbered("t", 0), numbered("t", seq))
}

// Snapshot returns the snapshot. One that another one replaces meanwhile is looked for again.
func (l *dynamoLog) Snapshot(ctx context.Context) (seq uint64, data []byte, err error) {
	for range maxAttempts {
		if _, err := l.head(ctx); err != nil {
			return 0, nil, err
		}
		it, err := l.store.get(ctx, l.g, snapshotKey)
		if err != nil {
			return 0, nil, err
		}
		if it == nil {
			return 0, nil, errNoSnapshot()
		}
		seq = it.number("n")
		data, all, err := l.store.getParts(ctx, l.g, "t", seq, it.text("a"), it.number("k"))
		if err != nil || all {
			return seq, data, err
		}
	}
	return 0, nil, fmt.Errorf("snapshot of record %d: parts of it are missing, %d times: %w", seq, maxAttempts, errkind.Unavailable)
}

func metaKey(key string) string { return "m#" + key }

// Meta returns a named value.
func (l *dynamoLog) Meta(ctx context.Context, key string) ([]byte, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if _, err := l.head(ctx); err != nil {
		return nil, err
	}
	it, err := l.store.get(ctx, l.g, metaKey(key))
	if err != nil {
		return nil, err
	}
	if it == nil {
		return nil, errNoMeta(key)
	}
	return it.bytes("v"), nil
}

// SetMeta keeps a named value.
func (l *dynamoLog) SetMeta(ctx context.Context, key string, value []byte) error {
	if err := checkSet(key, value); err != nil {
		return err
	}
	if _, err := l.head(ctx); err != nil {
		return err
	}
	return l.store.put(ctx, item{"p": text(l.g), "s": text(metaKey(key)), "v": binaries(value)}, "", nil)
}

// SwapMeta keeps a named value if the one before is old.
func (l *dynamoLog) SwapMeta(ctx context.Context, key string, old, value []byte) error {
	if err := checkSwap(key, old, value); err != nil {
		return err
	}
	if _, err := l.head(ctx); err != nil {
		return err
	}
	condition, values := "attribute_not_exists(s)", item(nil)
	if len(old) > 0 {
		condition, values = "v = :old", item{":old": binaries(old)}
	}
	if len(value) == 0 {
		return l.swapAway(ctx, key, condition, values)
	}
	id := draw()
	err := l.store.put(ctx, item{"p": text(l.g), "s": text(metaKey(key)), "v": binaries(value), "a": text(id)}, condition, values)
	if !failedCondition(err) {
		return err
	}
	it, err := l.store.get(ctx, l.g, metaKey(key))
	if err != nil || it.text("a") == id { // done by an attempt whose answer was lost
		return err
	}
	return errSwapped(key)
}

// swapAway removes a value on a condition. It is tried once: after another attempt nobody could say who has removed it.
func (l *dynamoLog) swapAway(ctx context.Context, name, condition string, values item) error {
	_, err := l.store.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: l.store.table, Key: key(l.g, metaKey(name)),
		ConditionExpression: aws.String(condition), ExpressionAttributeValues: values,
	}, func(o *dynamodb.Options) { o.Retryer = aws.NopRetryer{} })
	if failedCondition(err) {
		return errSwapped(name)
	}
	return dynamoError(ctx, err)
}

// DeleteMeta removes a named value.
func (l *dynamoLog) DeleteMeta(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	if _, err := l.head(ctx); err != nil {
		return err
	}
	return l.store.remove(ctx, l.g, metaKey(key))
}

// ListMeta returns the values whose names begin with prefix.
func (l *dynamoLog) ListMeta(ctx context.Context, prefix, after string, limit int) (list []Meta, err error) {
	limit, err = checkListMeta(prefix, after, limit)
	if err != nil {
		return nil, err
	}
	if _, err := l.head(ctx); err != nil {
		return nil, err
	}
	for it, err := range l.store.query(ctx, l.g, metaKey(max(prefix, after)), metaKey(prefix+afterAll)) {
		if err != nil {
			return nil, err
		}
		if name := it.text("s")[len(metaKey("")):]; name != after {
			list = append(list, Meta{name, it.bytes("v")})
		}
		if len(list) == limit {
			break
		}
	}
	return list, nil
}

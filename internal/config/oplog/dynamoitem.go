package oplog

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// item is an item of the table, or the values of an expression. What is missing, or of another type, reads as the zero value.
type item map[string]types.AttributeValue

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n uint64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatUint(n, 10)}
}

func binaries(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

func (it item) text(name string) string {
	if v, ok := it[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

func (it item) number(name string) uint64 {
	v, ok := it[name].(*types.AttributeValueMemberN)
	if !ok {
		return 0
	}
	n, _ := strconv.ParseUint(v.Value, 10, 64) // nobody writes another one
	return n
}

func (it item) bytes(name string) []byte {
	if v, ok := it[name].(*types.AttributeValueMemberB); ok {
		return v.Value
	}
	return nil
}

// draw returns a name that nobody else draws.
func draw() string { return fmt.Sprintf("%016x%016x", random(), random()) }

// numbered makes keys sort as their numbers do.
func numbered(prefix string, n uint64) string { return fmt.Sprintf("%s#%019d", prefix, n) }

// partKey names one part of what is too long for an item.
func partKey(prefix string, n uint64, id string, part uint64) string {
	return fmt.Sprintf("%s#%s#%06d", numbered(prefix, n), id, part)
}

func key(p, s string) item { return item{"p": text(p), "s": text(s)} }

// get returns an item, nil if there is none.
func (s *dynamoStore) get(ctx context.Context, p, sort string) (item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{TableName: s.table, Key: key(p, sort), ConsistentRead: aws.Bool(true)})
	if err != nil {
		return nil, dynamoError(ctx, err)
	}
	return out.Item, nil
}

// put keeps an item, on a condition if there is one.
func (s *dynamoStore) put(ctx context.Context, it item, condition string, values item) error {
	in := &dynamodb.PutItemInput{TableName: s.table, Item: it}
	if condition != "" {
		in.ConditionExpression, in.ExpressionAttributeValues = aws.String(condition), values
	}
	_, err := s.client.PutItem(ctx, in)
	return dynamoError(ctx, err)
}

// remove removes an item, if it is there.
func (s *dynamoStore) remove(ctx context.Context, p, sort string) error {
	_, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: s.table, Key: key(p, sort)})
	return dynamoError(ctx, err)
}

// query yields a partition's items from one key to another one, in order, both included.
func (s *dynamoStore) query(ctx context.Context, p, from, to string) iter.Seq2[item, error] {
	return s.queryWith(ctx, p, from, to, func(*dynamodb.QueryInput) {})
}

func (s *dynamoStore) queryWith(ctx context.Context, p, from, to string, also func(*dynamodb.QueryInput)) iter.Seq2[item, error] {
	return func(yield func(item, error) bool) {
		if from > to {
			return // the service refuses it
		}
		in := &dynamodb.QueryInput{
			TableName:                 s.table,
			KeyConditionExpression:    aws.String("p = :p AND s BETWEEN :from AND :to"),
			ExpressionAttributeValues: item{":p": text(p), ":from": text(from), ":to": text(to)},
			ConsistentRead:            aws.Bool(true),
		}
		also(in)
		for {
			out, err := s.client.Query(ctx, in)
			if err != nil {
				yield(nil, dynamoError(ctx, err))
				return
			}
			for _, it := range out.Items {
				if !yield(it, nil) {
					return
				}
			}
			if len(out.LastEvaluatedKey) == 0 {
				return
			}
			in.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// last returns the last item from one key to another one, nil if there is none.
func (s *dynamoStore) last(ctx context.Context, p, from, to string) (item, error) {
	backwards := func(in *dynamodb.QueryInput) { in.ScanIndexForward, in.Limit = aws.Bool(false), aws.Int32(1) }
	for it, err := range s.queryWith(ctx, p, from, to, backwards) {
		return it, err
	}
	return nil, nil
}

// removeRange removes a partition's items from one key to another one, both included.
func (s *dynamoStore) removeRange(ctx context.Context, p, from, to string) error {
	keysOnly := func(in *dynamodb.QueryInput) { in.ProjectionExpression = aws.String("p, s") }
	var requests []types.WriteRequest
	for it, err := range s.queryWith(ctx, p, from, to, keysOnly) {
		if err != nil {
			return err
		}
		requests = append(requests, types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: it}})
		if len(requests) == deleteAtOnce {
			if err := s.write(ctx, requests); err != nil {
				return err
			}
			requests = nil
		}
	}
	return s.write(ctx, requests)
}

// write runs requests. The service may leave some of them for later.
func (s *dynamoStore) write(ctx context.Context, requests []types.WriteRequest) error {
	for len(requests) > 0 {
		out, err := s.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{*s.table: requests}})
		if err != nil {
			return dynamoError(ctx, err)
		}
		requests = out.UnprocessedItems[*s.table]
	}
	return nil
}

// putParts keeps data in as many items as it takes, and returns how many. Nothing leads to them yet.
func (s *dynamoStore) putParts(ctx context.Context, p, prefix string, n uint64, id string, data []byte) (parts uint64, err error) {
	for ; len(data) > 0; parts++ {
		part := data[:min(len(data), itemBytes)]
		data = data[len(part):]
		if err := s.put(ctx, item{"p": text(p), "s": text(partKey(prefix, n, id, parts)), "d": binaries(part)}, "", nil); err != nil {
			return 0, err
		}
	}
	return parts, nil
}

// getParts returns what putParts has kept. It reports whether all parts are there.
func (s *dynamoStore) getParts(ctx context.Context, p, prefix string, n uint64, id string, parts uint64) (data []byte, all bool, err error) {
	found := uint64(0)
	for it, err := range s.query(ctx, p, partKey(prefix, n, id, 0), partKey(prefix, n, id, max(parts, 1)-1)) {
		if err != nil {
			return nil, false, err
		}
		found++
		data = append(data, it.bytes("d")...)
	}
	return data, found == parts, nil
}

// removeParts removes what putParts has kept.
func (s *dynamoStore) removeParts(ctx context.Context, p, prefix string, n uint64, id string) error {
	return s.removeRange(ctx, p, partKey(prefix, n, id, 0), fmt.Sprintf("%s#%s#%s", numbered(prefix, n), id, afterAll))
}

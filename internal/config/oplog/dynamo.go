package oplog

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/skep-dev/skep/internal/errkind"
)

// A table has all documents. Its key is made of two strings: p, the partition, and s, which sorts in it.
//
//	p          s                       attributes
//	documents  NAME                    g: the document's partition, drawn when it is made
//	G          head                    n, h: number and hash of the last record, and the last block as below with f, its first number
//	G          b#FIRST                 a block: a: which Append it was, and either d: its bytes, or k: how many parts they are in
//	G          d#FIRST#APPEND#PART     d: a part of a block that is too long for an item
//	G          s                       n, a, k: the snapshot's record, which SaveSnapshot it was, how many parts there are
//	G          t#SEQ#SAVE#PART         d: a part of a snapshot
//	G          m#KEY                   v: a named value; a: which SwapMeta it was
//
// Nothing here changes two items at once. The head is the one place where an Append is decided: it first writes the block that the
// head has, which all know already, as an item of its own, then puts the new block into the head, on the condition that the head is
// still what it was. A block in parts has those written before. So the blocks in order, then the head's, are the log, and what a
// process that was killed leaves is either what the head has as well or parts that nothing leads to.
//
// A partition takes 1,000 kilobytes a second (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html);
// each Append writes its block twice.
const (
	documentsPartition = "documents"
	headKey            = "head"
	snapshotKey        = "s"

	// itemBytes is how much data goes into one item, which may have 400 KB with its names.
	itemBytes = 350 << 10
	// deleteAtOnce is how many items BatchWriteItem takes.
	deleteAtOnce = 25

	// requestTimeout bounds one attempt at a request.
	requestTimeout = 10 * time.Second
	// tableTimeout is how long a new table may take to be there.
	tableTimeout = 2 * time.Minute
	// tablePause is how long it takes at least to look again.
	tablePause = 200 * time.Millisecond
	// maxAttempts is how often what others changed meanwhile is read again.
	maxAttempts = 10
)

// DynamoOptions say where a table is.
type DynamoOptions struct {
	Table  string // the table's name
	Region string // "": AWS_REGION or AWS_DEFAULT_REGION
	// Endpoint is where the service answers if it is not AWS's, as http://HOST:PORT.
	Endpoint string
	// CreateTable makes the table, paid by request, if there is none.
	CreateTable bool
}

// dynamoStore has all documents in one table.
type dynamoStore struct {
	client *dynamodb.Client
	table  *string
}

// OpenDynamo opens a store on DynamoDB. Credentials are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or what a
// container is given (ECS, EKS Pod Identity). Other nodes may use the table.
func OpenDynamo(ctx context.Context, opts DynamoOptions) (Store, error) {
	region := opts.Region
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if region == "" {
			region = os.Getenv(name)
		}
	}
	if region == "" {
		return nil, fmt.Errorf("open table %s: set its region, or AWS_REGION: %w", opts.Table, errkind.Invalid)
	}
	provider, err := awsCredentials()
	if err != nil {
		return nil, fmt.Errorf("open table %s: %w", opts.Table, err)
	}
	options := dynamodb.Options{
		Region:      region,
		Credentials: aws.NewCredentialsCache(provider),
		HTTPClient:  awshttp.NewBuildableClient().WithTimeout(requestTimeout),
	}
	if opts.Endpoint != "" {
		options.BaseEndpoint = aws.String(opts.Endpoint)
	}
	s := &dynamoStore{dynamodb.New(options), aws.String(opts.Table)}
	if err := s.find(ctx, opts.CreateTable); err != nil {
		return nil, fmt.Errorf("open table %s: %w", opts.Table, err)
	}
	return s, nil
}

// awsCredentials are those of the environment, or what a container's environment leads to. Other sources would make the program
// three megabytes bigger.
func awsCredentials() (aws.CredentialsProvider, error) {
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if id != "" && secret != "" {
		return credentials.NewStaticCredentialsProvider(id, secret, os.Getenv("AWS_SESSION_TOKEN")), nil
	}
	endpoint := os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if path := os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); path != "" {
		endpoint = "http://169.254.170.2" + path // https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
	}
	if endpoint == "" {
		return nil, fmt.Errorf("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", errkind.Invalid)
	}
	if !mayTell(endpoint) {
		return nil, fmt.Errorf("AWS_CONTAINER_CREDENTIALS_FULL_URI is not https, nor on this machine: %w", errkind.Invalid)
	}
	return endpointcreds.New(endpoint, func(o *endpointcreds.Options) {
		o.AuthorizationToken = os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN")
		if file := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); file != "" {
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(file) // it is replaced now and then
				return string(token), err
			})
		}
	}), nil
}

// containerHosts answer containers without https, on the machine's own link: ECS and EKS.
var containerHosts = []string{"169.254.170.2", "169.254.170.23", "fd00:ec2::23"}

// mayTell reports whether a container's token may be sent to an address.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
func mayTell(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	loopback := err == nil && ip.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && (loopback || slices.Contains(containerHosts, u.Hostname()))
}

// find looks for the table, and makes it if it may.
func (s *dynamoStore) find(ctx context.Context, create bool) error {
	_, err := s.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: s.table})
	var missing *types.ResourceNotFoundException
	if errors.As(err, &missing) && !create {
		return fmt.Errorf("there is no such table; make it, or add create=true: %w", errkind.NotFound)
	}
	if errors.As(err, &missing) {
		err = s.create(ctx)
	}
	return dynamoError(ctx, err)
}

func (s *dynamoStore) create(ctx context.Context) error {
	_, err := s.client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   s.table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("p"), AttributeType: types.ScalarAttributeTypeS},
			{AttributeName: aws.String("s"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{
			{AttributeName: aws.String("p"), KeyType: types.KeyTypeHash},
			{AttributeName: aws.String("s"), KeyType: types.KeyTypeRange},
		},
	})
	var taken *types.ResourceInUseException // another node makes it
	if err != nil && !errors.As(err, &taken) {
		return err
	}
	waiter := dynamodb.NewTableExistsWaiter(s.client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = tablePause, 10*tablePause
	})
	return waiter.Wait(ctx, &dynamodb.DescribeTableInput{TableName: s.table}, tableTimeout)
}

// dynamoError wraps the kind that a caller may act on.
func dynamoError(ctx context.Context, err error) error {
	var api smithy.APIError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &api): // no answer
		return fmt.Errorf("%w: %w", err, errkind.Unavailable)
	case api.ErrorFault() == smithy.FaultServer:
		return fmt.Errorf("%w: %w", err, errkind.Unavailable)
	}
	switch api.ErrorCode() {
	case "ProvisionedThroughputExceededException", "RequestLimitExceeded", "ThrottlingException":
		return fmt.Errorf("%w: %w", err, errkind.Unavailable)
	}
	return err
}

// failedCondition reports whether an item was not as a request wanted it.
func failedCondition(err error) bool {
	var failed *types.ConditionalCheckFailedException
	return errors.As(err, &failed)
}

// Create makes an empty document: first its head, then what leads to it.
func (s *dynamoStore) Create(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	g, err := s.partition(ctx, doc)
	if err != nil {
		return err
	}
	condition, values := "attribute_not_exists(s)", item(nil)
	if g != "" {
		head, err := s.head(ctx, g)
		if err != nil {
			return err
		}
		if head != nil {
			return errDocumentExists(doc)
		}
		condition, values = "g = :g", item{":g": text(g)} // a process was killed in Delete
	}
	made := draw()
	if err := s.put(ctx, item{"p": text(made), "s": text(headKey), "n": number(0), "h": binaries(make([]byte, 32))}, "", nil); err != nil {
		return err
	}
	err = s.put(ctx, item{"p": text(documentsPartition), "s": text(doc), "g": text(made)}, condition, values)
	if !failedCondition(err) {
		return err
	}
	if now, err := s.partition(ctx, doc); err != nil || now == made { // done by an attempt whose answer was lost
		return err
	}
	return errors.Join(errDocumentExists(doc), s.remove(ctx, made, headKey))
}

// Open opens a document.
func (s *dynamoStore) Open(ctx context.Context, doc string) (Log, error) {
	if err := checkDocument(doc); err != nil {
		return nil, err
	}
	g, err := s.partition(ctx, doc)
	if err != nil {
		return nil, err
	}
	if g == "" {
		return nil, errNoDocument(doc)
	}
	l := &dynamoLog{store: s, doc: doc, g: g}
	if _, err := l.head(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// partition is where a document is, "" if there is none.
func (s *dynamoStore) partition(ctx context.Context, doc string) (string, error) {
	it, err := s.get(ctx, documentsPartition, doc)
	return it.text("g"), err
}

// List returns the names that come after the given one. What a process that was killed in Delete has left is among them.
func (s *dynamoStore) List(ctx context.Context, after string, limit int) (names []string, err error) {
	limit, err = checkPage(limit)
	if err != nil {
		return nil, err
	}
	for it, err := range s.query(ctx, documentsPartition, max(after, " "), afterAll) {
		if err != nil {
			return nil, err
		}
		if name := it.text("s"); name != after {
			names = append(names, name)
		}
		if len(names) == limit {
			break
		}
	}
	return names, nil
}

// Delete removes a document: first its head, with which it is gone for everybody, then its name, then all else.
func (s *dynamoStore) Delete(ctx context.Context, doc string) error {
	if err := checkDocument(doc); err != nil {
		return err
	}
	g, err := s.partition(ctx, doc)
	if err != nil {
		return err
	}
	if g == "" {
		return errNoDocument(doc)
	}
	head, err := s.head(ctx, g)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, g, headKey); err != nil {
		return err
	}
	_, err = s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: s.table, Key: key(documentsPartition, doc),
		ConditionExpression: aws.String("g = :g"), ExpressionAttributeValues: item{":g": text(g)},
	})
	if err != nil && !failedCondition(err) { // another one has deleted it, too
		return dynamoError(ctx, err)
	}
	if err := s.removeRange(ctx, g, " ", afterAll); err != nil {
		return fmt.Errorf("remove what document %s had: %w", doc, err)
	}
	if head == nil {
		return errNoDocument(doc)
	}
	return nil
}

// Close releases what the Store holds.
func (s *dynamoStore) Close() error { return nil }

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/highwater-mq/highwater/examples/go/highwaterv1"
)

const (
	errorDomain = "highwater.v1"
	// How long to go on trying where that helps, and the longest wait for one answer.
	patience    = 30 * time.Second
	callTimeout = 10 * time.Second
)

// apiError is a request, or one item of it, that failed.
type apiError struct {
	reason    string // a stable name: docs/protocol.md lists all
	message   string
	retriable bool
	metadata  map[string]string
}

func (e *apiError) Error() string { return fmt.Sprintf("%s: %s", e.reason, e.message) }

func ofItem(e *highwaterv1.Error) *apiError {
	return &apiError{e.GetReason(), e.GetMessage(), e.GetRetriable(), e.GetMetadata()}
}

// ofCall reads what a status says. Its details hold an ErrorInfo, unless it did not come from a broker.
func ofCall(err error) *apiError {
	said := status.Convert(err)
	code := said.Code()
	found := &apiError{
		reason:    code.String(),
		message:   said.Message(),
		retriable: code == codes.Unavailable || code == codes.DeadlineExceeded,
	}
	for _, detail := range said.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			found.reason, found.metadata = info.GetReason(), info.GetMetadata()
		}
	}
	return found
}

func noLeader(partition uint32) *apiError {
	message := fmt.Sprintf("partition %d has no leader at the moment", partition)
	return &apiError{reason: "LEADER_NOT_AVAILABLE", message: message, retriable: true}
}

func asAPIError(err error) *apiError {
	var found *apiError
	if errors.As(err, &found) {
		return found
	}
	return &apiError{}
}

// persistently tries again, after a wait, what fails in a way that passes.
func persistently(ctx context.Context, attempt func() error) error {
	giveUp := time.Now().Add(patience)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := attempt()
		if err == nil || ctx.Err() != nil || !asAPIError(err).retriable || time.Now().Add(wait).After(giveUp) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

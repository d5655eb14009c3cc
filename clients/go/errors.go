package wallet

import (
	"errors"
	"fmt"
	"io"
	"time"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const errorDomain = "wallet.monay.com"

// Violation is one field that breaks a rule of the contract.
type Violation struct {
	Field       string
	Description string
}

// Error says why a call was refused, or that it ended without an answer. Find it with errors.As.
type Error struct {
	Code    codes.Code
	Message string

	// Reason is UNSPECIFIED if the answer did not come from the wallet, or from a newer one; ReasonName then still says
	// its word. Facts are what the reason promises to bring.
	Reason     walletv1.ErrorReason
	ReasonName string
	Facts      map[string]string

	Violations []Violation

	// RetryAfter is when the server has room again; zero where it does not say.
	RetryAfter time.Duration

	// Definite says that nothing was changed, for certain. Where it is false the call may have taken effect: send the
	// same request again, with its RequestID, to learn it.
	Definite  bool
	RequestID string

	// CallID is the server's own name for the call: what its log lines carry.
	CallID string

	status *status.Status
}

func (e *Error) Error() string {
	if e.ReasonName != "" {
		return e.ReasonName + ": " + e.Message
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// GRPCStatus is the status as gRPC knows it, for code that looks at errors with status.FromError.
func (e *Error) GRPCStatus() *status.Status {
	return e.status
}

// passing says whether the same call may be sent again as it is: UNAVAILABLE, and whatever says when.
func (e *Error) passing() bool {
	return e.Code == codes.Unavailable || e.RetryAfter > 0
}

func (e *Error) tokenExpired() bool {
	return e.Reason == walletv1.ErrorReason_ERROR_REASON_TOKEN_EXPIRED
}

// newError is what gRPC reports, in the contract's words.
func newError(err error, trailers metadata.MD, requestID string) *Error {
	reported := status.Convert(err)
	result := &Error{Code: reported.Code(), Message: reported.Message(), RequestID: requestID, status: reported}
	if ids := trailers.Get("request-id"); len(ids) > 0 {
		result.CallID = ids[0]
	}
	for _, detail := range reported.Details() {
		switch known := detail.(type) {
		case *errdetails.ErrorInfo:
			result.readInfo(known)
		case *errdetails.RetryInfo:
			result.RetryAfter = known.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, field := range known.GetFieldViolations() {
				result.Violations = append(result.Violations, Violation{field.GetField(), field.GetDescription()})
			}
		}
	}
	return result
}

func (e *Error) readInfo(info *errdetails.ErrorInfo) {
	if info.GetDomain() != errorDomain {
		return
	}
	e.ReasonName, e.Facts = info.GetReason(), info.GetMetadata()
	declared := e.Reason.Descriptor().Values().ByName(protoreflect.Name("ERROR_REASON_" + info.GetReason()))
	if declared == nil {
		return
	}
	e.Reason = walletv1.ErrorReason(declared.Number())
	facts, _ := proto.GetExtension(declared.Options(), walletv1.E_Error).(*walletv1.ErrorFacts)
	e.Definite = !facts.GetUnknown()
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF)
}

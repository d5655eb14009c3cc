package wallet

import (
	"crypto/rand"
	"fmt"
	"strings"

	walletv1 "github.com/monay/wallet-go/monay/wallet/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

const requestIDField = "request_id"

// NewRequestID makes a name for one intent. Store it before the first try if the intent has to survive this process.
func NewRequestID() string {
	var id [16]byte
	// It never fails: a system without randomness ends the program.
	_, _ = rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[0:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// nameIntent gives the request its request id, unless it has one, and every transfer within it, too; it returns the id.
//
// It is written into the caller's own message, before anything is sent: whoever sends the same message again, after
// whatever error, means the same intent and cannot pay twice.
func nameIntent(request any) string {
	if submitted, ok := request.(*walletv1.SubmitTransfersRequest); ok {
		for _, transfer := range submitted.GetTransfers() {
			nameIntent(transfer)
		}
	}
	message, ok := request.(proto.Message)
	if !ok {
		return ""
	}
	reflected := message.ProtoReflect()
	field := reflected.Descriptor().Fields().ByName(requestIDField)
	if field == nil {
		return ""
	}
	if reflected.Get(field).String() == "" {
		reflected.Set(field, protoreflect.ValueOfString(NewRequestID()))
	}
	return reflected.Get(field).String()
}

// repeatable says whether the contract lets the call be sent a second time: the rpc declares it, or the request has a
// name.
func repeatable(method string, request any) bool {
	if message, ok := request.(proto.Message); ok {
		if message.ProtoReflect().Descriptor().Fields().ByName(requestIDField) != nil {
			return true
		}
	}
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	descriptor, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	declared, ok := descriptor.Options().(*descriptorpb.MethodOptions)
	return ok && declared.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}

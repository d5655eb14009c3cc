package com.monay.wallet;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;
import com.monay.wallet.v1.SubmitTransfersRequest;
import java.util.UUID;

/** A caller's names for intents. Messages do not change, so a name of which more than one call is to know is set first. */
public final class RequestIds {
  private static final String FIELD = "request_id";

  private RequestIds() {}

  /** A new name. Store it before the first try if the intent has to survive this process. */
  public static String newRequestId() {
    return UUID.randomUUID().toString();
  }

  /** The request with a request id, its own if it has one, and every transfer within it, too. */
  public static <T extends Message> T named(T request) {
    Message.Builder named = request.toBuilder();
    if (named instanceof SubmitTransfersRequest.Builder submitted) {
      submitted.getTransfersBuilderList().forEach(transfer -> {
        if (transfer.getRequestId().isEmpty()) {
          transfer.setRequestId(newRequestId());
        }
      });
    }
    FieldDescriptor field = request.getDescriptorForType().findFieldByName(FIELD);
    if (field != null && of(request).isEmpty()) {
      named.setField(field, newRequestId());
    }
    @SuppressWarnings("unchecked") // A message's builder builds a message of the same type.
    T result = (T) named.build();
    return result;
  }

  /** The request's id; empty where it has none. */
  public static String of(Message request) {
    FieldDescriptor field = request.getDescriptorForType().findFieldByName(FIELD);
    return field == null ? "" : (String) request.getField(field);
  }
}

package com.monay.wallet;

import com.google.protobuf.Any;
import com.google.protobuf.Descriptors.EnumValueDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.monay.wallet.v1.ErrorReason;
import com.monay.wallet.v1.ErrorReasonProto;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** A call was refused, or ended without an answer: why, and what is certain about it. */
public final class WalletException extends RuntimeException {
  private static final long serialVersionUID = 1;
  private static final String DOMAIN = "wallet.monay.com";
  private static final Metadata.Key<String> CALL_ID = Metadata.Key.of("request-id", Metadata.ASCII_STRING_MARSHALLER);

  /** One field that breaks a rule of the contract. */
  public record Violation(String field, String description) {}

  private final transient Status status;
  private final String requestId;
  private final String callId;
  private ErrorReason reason = ErrorReason.ERROR_REASON_UNSPECIFIED;
  private String reasonName = "";
  private Map<String, String> facts = Map.of();
  private final transient List<Violation> violations = new ArrayList<>();
  private Duration retryAfter;
  private boolean definite;

  private WalletException(Status status, Metadata trailers, String requestId, Throwable cause) {
    super(status.getDescription(), cause);
    this.status = status;
    this.requestId = requestId;
    String id = trailers == null ? null : trailers.get(CALL_ID);
    this.callId = id == null ? "" : id;
  }

  /** What gRPC reports, in the contract's words. */
  public static WalletException of(Throwable thrown, String requestId) {
    Status status = reported(thrown);
    Metadata trailers = Status.trailersFromThrowable(thrown);
    WalletException error = new WalletException(status, trailers, requestId, thrown);
    com.google.rpc.Status details = trailers == null ? null : StatusProto.fromStatusAndTrailers(status, trailers);
    if (details != null) {
      details.getDetailsList().forEach(error::read);
    }
    return error;
  }

  /** A call on a connection that has just broken ends UNKNOWN in grpc-java; gRPC's word for it is UNAVAILABLE. */
  private static Status reported(Throwable thrown) {
    Status status = Status.fromThrowable(thrown);
    boolean broke = status.getCode() == Status.Code.UNKNOWN && status.getCause() instanceof IOException;
    return broke ? Status.UNAVAILABLE.withDescription(status.getDescription()).withCause(status.getCause()) : status;
  }

  private void read(Any detail) {
    try {
      if (detail.is(ErrorInfo.class)) {
        read(detail.unpack(ErrorInfo.class));
      } else if (detail.is(RetryInfo.class)) {
        com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
        retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
      } else if (detail.is(BadRequest.class)) {
        detail.unpack(BadRequest.class).getFieldViolationsList()
            .forEach(field -> violations.add(new Violation(field.getField(), field.getDescription())));
      }
    } catch (InvalidProtocolBufferException notTheWallets) {
      // The status code is all there is to go by.
      addSuppressed(notTheWallets);
    }
  }

  private void read(ErrorInfo info) {
    if (!info.getDomain().equals(DOMAIN)) {
      return;
    }
    reasonName = info.getReason();
    facts = Map.copyOf(info.getMetadataMap());
    EnumValueDescriptor declared = ErrorReason.getDescriptor().findValueByName("ERROR_REASON_" + reasonName);
    if (declared != null) {
      reason = ErrorReason.forNumber(declared.getNumber());
      definite = !declared.getOptions().getExtension(ErrorReasonProto.error).getUnknown();
    }
  }

  @Override
  public String getMessage() {
    return (reasonName.isEmpty() ? code().name() : reasonName) + ": " + super.getMessage();
  }

  public Status.Code code() {
    return status.getCode();
  }

  /** One of the contract's; unspecified if the answer did not come from the wallet, or from a newer one. */
  public ErrorReason reason() {
    return reason;
  }

  /** The word for the reason, also of one that this version does not know. */
  public String reasonName() {
    return reasonName;
  }

  /** What the reason promises to bring. */
  public Map<String, String> facts() {
    return facts;
  }

  public List<Violation> violations() {
    return List.copyOf(violations);
  }

  /** When the server has room again, where it says so. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /**
   * Whether nothing was changed, for certain. Where it is false the call may have taken effect: send the same request
   * again, with its request id, to learn it.
   */
  public boolean definite() {
    return definite;
  }

  public String requestId() {
    return requestId;
  }

  /** The server's own name for the call: what its log lines carry. */
  public String callId() {
    return callId;
  }

  /** Whether the same call may be sent again as it is: UNAVAILABLE, and whatever says when. */
  public boolean passing() {
    return code() == Status.Code.UNAVAILABLE || retryAfter != null;
  }

  public boolean tokenExpired() {
    return reason == ErrorReason.ERROR_REASON_TOKEN_EXPIRED;
  }
}

"""The typed calls of the Java and Kotlin clients: one method for each rpc, with the contract's prose as documentation.

Java and Kotlin are built by Maven, which runs protoc for the messages; `java_client` lays out what that needs, under
clients/java/build: the contract without the options that only a server reads, and the calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from rpcs import Rpc, Service, contract

PACKAGE = "com.monay.wallet.v1"
KOTLIN_PACKAGE = "com.monay.wallet.kotlin"
SERVER_IMPORTS = ("buf/", "google/api/")
HEADING = "// Generated from the contract by proto/java_calls.py. Do not edit."


def java_client(descriptors: bytes, out: Path) -> None:
    """Write the contract for protoc, and the calls in both languages."""
    files = FileDescriptorSet.FromString(descriptors)
    ours = [file for file in files.file if file.package == "monay.wallet.v1"]
    for file in ours:
        _without_server_options(file)
        file.options.java_package = PACKAGE
        file.options.java_multiple_files = True
        file.options.java_outer_classname = f"{_camel(Path(file.name).stem)}Proto"
    needed = [file for file in files.file if not file.name.startswith(SERVER_IMPORTS)]
    _write(out / "contract.binpb", FileDescriptorSet(file=needed).SerializeToString())
    _write(out / "contract.txt", "".join(f"{file.name}\n" for file in ours).encode())
    names = [file.name for file in ours]
    known = contract(CodeGeneratorRequest(file_to_generate=names, proto_file=files.file))
    java, kotlin = out / "java" / PACKAGE.replace(".", "/"), out / "kotlin" / KOTLIN_PACKAGE.replace(".", "/")
    for service in known.services:
        name = service.name.removesuffix("Service")
        _write(java / f"{name}Rpcs.java", _rpcs(service, f"{name}Rpcs").encode())
        _write(java / f"{name}Calls.java", _java(service, name).encode())
        _write(kotlin / f"{name}Calls.kt", _kotlin(service, name).encode())


def _without_server_options(file: FileDescriptorProto) -> None:
    """Take out what refers to protos that a client has no use for. The facts of error reasons stay."""
    kept = [name for name in file.dependency if not name.startswith(SERVER_IMPORTS)]
    del file.dependency[:]
    file.dependency.extend(kept)
    fields = [field for message in file.message_type for field in message.field]
    oneofs = [oneof for message in file.message_type for oneof in message.oneof_decl]
    methods = [method for service in file.service for method in service.method]
    for holder in (*file.message_type, *fields, *oneofs, *methods):
        for option, _ in holder.options.ListFields():
            if option.is_extension:
                holder.options.ClearField(option)
        # Where nobody has imported an extension, it is an unknown field.
        holder.options.DiscardUnknownFields()


def _rpcs(service: Service, name: str) -> str:
    lines = [HEADING, f"package {PACKAGE};", "", "import com.monay.wallet.internal.Rpc;", ""]
    lines += [f"/** The rpcs of {service.name}, as the clients need to know them. */", f"public final class {name} {{"]
    for rpc in service.rpcs:
        kind = "streaming" if rpc.streaming else "unary"
        messages = f"{rpc.request}.getDefaultInstance(), {rpc.response}.getDefaultInstance()"
        lines += [
            f"  public static final Rpc<{rpc.request}, {rpc.response}> {rpc.snake.upper()} =",
            f'      Rpc.{kind}("{rpc.path.lstrip("/")}", {messages}, {str(rpc.repeatable).lower()});',
        ]
    return "\n".join([*lines, "", f"  private {name}() {{}}", "}", ""])


def _java(service: Service, name: str) -> str:
    imports = ["com.monay.wallet.internal.Caller", "com.monay.wallet.internal.Pages", "java.time.Duration"]
    imports += ["java.util.Iterator"]
    lines = [HEADING, f"package {PACKAGE};", "", *(f"import {name};" for name in imports), ""]
    lines += [*_doc(service.prose, ""), f"public class {name}Calls {{", "  protected final Caller caller;", ""]
    lines += [f"  public {name}Calls(Caller caller) {{", "    this.caller = caller;", "  }"]
    for rpc in service.rpcs:
        if not rpc.watched:
            lines += _java_method(rpc, f"{name}Rpcs")
    return "\n".join([*lines, "}", ""])


def _java_method(rpc: Rpc, rpcs: str) -> Iterator[str]:
    returned, call = (f"Iterator<{rpc.response}>", "stream") if rpc.streaming else (rpc.response, "unary")
    yield ""
    yield from _doc(rpc.prose, "  ")
    yield f"  public {returned} {rpc.camel}({rpc.request} request) {{"
    yield f"    return {rpc.camel}(request, null);"
    yield "  }"
    yield ""
    yield f"  /** As {{@link #{rpc.camel}({rpc.request})}}, with a time of its own. */"
    yield f"  public {returned} {rpc.camel}({rpc.request} request, Duration timeout) {{"
    yield f"    return caller.{call}({rpcs}.{rpc.snake.upper()}, request, timeout);"
    yield "  }"
    if rpc.page:
        getter = f"{rpc.response}::get{_camel(rpc.page.field)}List"
        yield ""
        yield f"  /** Each of what {rpc.camel} lists, page after page. */"
        yield f"  public Iterable<{rpc.page.item}> iterate{rpc.name.removeprefix('List')}({rpc.request} request) {{"
        yield "    return Pages.of(page -> " + f"{rpc.camel}(request.toBuilder().setPageToken(page).build()),"
        yield f"        request.getPageToken(), {getter}, {rpc.response}::getNextPageToken);"
        yield "  }"


def _kotlin(service: Service, name: str) -> str:
    lines = [HEADING, f"package {KOTLIN_PACKAGE}", "", f"import {PACKAGE}.*", "import kotlin.time.Duration"]
    lines += ["import kotlinx.coroutines.flow.Flow", "import kotlinx.coroutines.flow.flow", ""]
    lines += [*_doc(service.prose, ""), f"public open class {name}Calls internal constructor("]
    lines += ["    internal val caller: Caller,", ") {"]
    for rpc in service.rpcs:
        if not rpc.watched:
            lines += _kotlin_method(rpc, f"{name}Rpcs")
    return "\n".join([*lines, "}", ""])


def _kotlin_method(rpc: Rpc, rpcs: str) -> Iterator[str]:
    arguments = f"request: {rpc.request}, timeout: Duration? = null"
    yield from _doc(rpc.prose, "    ")
    if rpc.streaming:
        yield f"    public fun {rpc.camel}({arguments}): Flow<{rpc.response}> ="
        yield f"        caller.stream({rpcs}.{rpc.snake.upper()}, request, timeout)"
    else:
        yield f"    public suspend fun {rpc.camel}({arguments}): {rpc.response} ="
        yield f"        caller.unary({rpcs}.{rpc.snake.upper()}, request, timeout)"
    yield ""
    if rpc.page:
        yield f"    /** Each of what {rpc.camel} lists, page after page. */"
        yield f"    public fun iterate{rpc.name.removeprefix('List')}({arguments}): Flow<{rpc.page.item}> = flow {{"
        yield "        var token = request.pageToken"
        yield "        do {"
        yield f"            val page = {rpc.camel}(request.toBuilder().setPageToken(token).build(), timeout)"
        yield f"            page.{_lower_camel(rpc.page.field)}List.forEach {{ emit(it) }}"
        yield "            token = page.nextPageToken"
        yield "        } while (token.isNotEmpty())"
        yield "    }"
        yield ""


def _doc(prose: str, spaces: str) -> list[str]:
    text = prose.replace("&", "&amp;").replace("<", "&lt;").replace("*/", "* /").replace("@", "&#64;")
    body = [f"{spaces} * {line}".rstrip() if line else f"{spaces} * <p>" for line in text.split("\n")]
    return [f"{spaces}/**", *body, f"{spaces} */"]


def _camel(snake: str) -> str:
    return "".join(part.capitalize() for part in snake.split("_"))


def _lower_camel(snake: str) -> str:
    return snake[0] + _camel(snake)[1:]


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

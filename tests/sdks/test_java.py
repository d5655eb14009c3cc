"""The Java and Kotlin libraries, as somebody uses them who has nothing else of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sandbox.endpoints import ROOT
from tests.sdks.examples import came_out_right, example, write
from tests.sdks.languages import JAVA, maven_build, run
from tests.sdks.surface import pinned

CLIENT = ROOT / "clients/java"

pytestmark = [pytest.mark.sdk, pytest.mark.timeout(1800)]


@pytest.fixture(autouse=True)
def built() -> None:
    JAVA.require()
    maven_build()


def test_the_public_surface_is_the_one_that_is_pinned() -> None:
    """What is written by hand and not internal, as the compiled classes declare it, and the typed calls."""
    modules = ("wallet/target/classes/com/monay/wallet", "wallet-kotlin/target/classes/com/monay/wallet/kotlin")
    classes = [path for module in modules for path in sorted((CLIENT / module).glob("*.class"))]
    classes += sorted((CLIENT / "wallet/target/classes/com/monay/wallet/v1").glob("*Calls.class"))
    # Coroutines compile into classes with numbers, which nobody names.
    named = [path for path in classes if not re.search(r"\$(\d|\w+\$\d)", path.name)]
    declared = run("javap", "-public", *named)
    pinned(CLIENT / "api.txt", "\n".join(line for line in declared.splitlines() if "Compiled from" not in line) + "\n")


@pytest.mark.parametrize("language", ["java", "kotlin"])
def test_the_library_installs_into_an_empty_project_and_the_example_of_the_readme_runs(
    language: str, example_environment: dict[str, str], tmp_path: Path
) -> None:
    """Out of a Maven repository, with what the library names as its dependencies."""
    write(tmp_path / "pom.xml", PROJECTS[language])
    source = {"java": "src/main/java/Example.java", "kotlin": "src/main/kotlin/Example.kt"}[language]
    write(tmp_path / source, example("java", language))
    run("mvn", "--quiet", "--batch-mode", "package", cwd=tmp_path)
    libraries = (tmp_path / "classpath.txt").read_text().strip()
    main = {"java": "Example", "kotlin": "ExampleKt"}[language]
    came_out_right(
        run("java", "-cp", f"target/classes:{libraries}", main, cwd=tmp_path, environment=example_environment)
    )


def project(artifact: str, build: str) -> str:
    """The pom of somebody's shop."""
    return f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>com.example</groupId><artifactId>shop</artifactId><version>1</version>
  <properties>
    <maven.compiler.release>17</maven.compiler.release>
    <project.build.sourceEncoding>UTF-8</project.build.sourceEncoding>
  </properties>
  <dependencies>
    <dependency><groupId>com.monay</groupId><artifactId>{artifact}</artifactId><version>{version()}</version></dependency>
  </dependencies>
  <build><plugins>
    {build}
    <plugin>
      <artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version>
      <executions><execution>
        <phase>package</phase><goals><goal>build-classpath</goal></goals>
        <configuration><outputFile>classpath.txt</outputFile></configuration>
      </execution></executions>
    </plugin>
  </plugins></build>
</project>
"""


def version() -> str:
    """As the library itself says it."""
    text = (CLIENT / "wallet/src/main/java/com/monay/wallet/WalletClient.java").read_text()
    found = re.search(r'VERSION = "(.*)"', text)
    assert found
    return found[1]


def plugin(artifact: str) -> str:
    """The version of a Maven plugin that our own build uses."""
    text = (CLIENT / "pom.xml").read_text()
    found = re.search(rf"<{artifact}>(.*?)</", text)
    assert found
    return found[1]


KOTLIN_PLUGIN = f"""<plugin>
      <groupId>org.jetbrains.kotlin</groupId><artifactId>kotlin-maven-plugin</artifactId>
      <version>{plugin("kotlin.version")}</version>
      <executions><execution>
        <phase>compile</phase><goals><goal>compile</goal></goals>
        <configuration><jvmTarget>17</jvmTarget><sourceDirs><sourceDir>src/main/kotlin</sourceDir></sourceDirs></configuration>
      </execution></executions>
    </plugin>"""
COMPILER_PLUGIN = "<plugin><artifactId>maven-compiler-plugin</artifactId><version>3.14.0</version></plugin>"
PROJECTS = {
    "java": project("monay-wallet", COMPILER_PLUGIN),
    "kotlin": project("monay-wallet-kotlin", KOTLIN_PLUGIN),
}

"""The site's pages that are made when it is built: from README.md, from types and registries.

What the README says stands there alone; options, learners, backbones, data sets and commands are
what the package has.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Page → its title and the sections of README.md that it is made of.
SECTIONS = {
    "space.md": ("A search space",),
    "data.md": ("Your own data",),
    "python.md": ("As a library",),
    "commands.md": ("Commands",),
    "dashboards.md": ("Dashboards",),
    "export.md": ("The winner in another project",),
    "measured.md": ("How a result is measured", "What isn't there yet", "Dependencies"),
}
WHOLE = {"extend.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
ELSEWHERE = {"CONTRIBUTING.md": "extend.md", "CHANGELOG.md": "changelog.md"}
HEADING = re.compile(r"^(#{2,3}) (.+)$")
FENCE = "```"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, and the pictures of the README that lie outside of docs/."""
    pages = from_readme() | {name: text(source) for name, source in WHOLE.items()}
    pages |= {
        "options.md": options(),
        "learners.md": learners(),
        "backbones.md": backbones(),
        "datasets.md": datasets(),
    }
    pages["commands.md"] += commands()
    anchors = {slug(title): page for page, body in pages.items() for title in headings(body)}
    for name, body in pages.items():
        files.append(File.generated(config, name, content=linked(body, name, anchors)))
    for picture in sorted(set(re.findall(r"\]\((trials/[^)]+\.svg)\)", text("README.md")))):
        files.append(File.generated(config, Path(picture).name, abs_src_path=str(ROOT / picture)))
    return files


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def from_readme() -> dict[str, str]:
    """The pages of :data:`SECTIONS`; a section ends where another of its rank or above begins."""
    parts = dict(sections(text("README.md")))
    return {page: "\n".join(parts[each] for each in each_of) for page, each_of in SECTIONS.items()}


def sections(markdown: str) -> Iterator[tuple[str, str]]:
    """(title, text) of each second-rank section, and of those of the third that are pages."""
    own = {title for titles in SECTIONS.values() for title in titles}
    title, rank, lines, fenced = "", 2, [], False
    for line in markdown.splitlines():
        fenced ^= line.startswith(FENCE)
        found = None if fenced else HEADING.match(line)
        if found and (len(found[1]) <= rank or found[2] in own):
            yield title, "\n".join(lines) + "\n"
            title, rank = found[2], len(found[1])
            lines = [f"# {title}" if rank == 2 or title in own else line]
        else:
            lines.append(line)
    yield title, "\n".join(lines) + "\n"


def headings(markdown: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)


def slug(title: str) -> str:
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower())


def linked(markdown: str, page: str, anchors: dict[str, str]) -> str:
    """Links as they are from a page of the site; what isn't on it is only named."""

    def point(link: re.Match[str]) -> str:
        mark, label, target = link.groups()
        path, _, anchor = target.partition("#")
        if not path and anchor in anchors:
            target = f"#{anchor}" if anchors[anchor] == page else f"{anchors[anchor]}#{anchor}"
        elif path.startswith("docs/") or (mark and path.startswith("trials/")):
            target = Path(path).name
        elif path in ELSEWHERE:
            target = ELSEWHERE[path]
        elif not path.startswith("http"):
            return f"`{label}`"
        return f"{mark}[{label}]({target})"

    return re.sub(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)", point, markdown)


def table(columns: list[str], rows: Iterator[list[Any]]) -> str:
    def line(cells: list[Any]) -> str:
        return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows), ""])


def options() -> str:
    """Every field of a study's configuration, from its types."""
    from autometa.config import StudyConfig

    body = ["# Options", "", "What a YAML file may say, with what holds where it doesn't.", ""]
    schema = StudyConfig.model_json_schema()
    parts = [("", schema), *((name, part) for name, part in parts_of(schema))]
    for name, part in parts:
        fields = (
            [f"`{field}`", kind(spec), shown(spec), spec.get("description", "")]
            for field, spec in part["properties"].items()
            if name or not nested(spec, schema)
        )
        body += [f"## {name or 'The study'}", "", part.get("description", "") if name else "", ""]
        body.append(table(["field", "type", "default", "what it is"], fields))
    return "\n".join(body)


def nested(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of a field that has fields of its own."""
    for each in (spec, *spec.get("anyOf", ()), *spec.get("allOf", ())):
        found = schema["$defs"].get(each.get("$ref", "").rpartition("/")[2])
        if found and "properties" in found:
            return dict(found)
    return None


def parts_of(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, spec in schema["properties"].items():
        if part := nested(spec, schema):
            yield name, part
            yield from (
                (f"{name}.{inner}", found)
                for inner, each in part["properties"].items()
                if (found := nested(each, schema))
            )


def kind(spec: dict[str, Any]) -> str:
    """A field's type in words."""
    if "anyOf" in spec:
        return " or ".join(dict.fromkeys(kind(each) for each in spec["anyOf"]))
    if "enum" in spec:
        return ", ".join(f"`{each}`" for each in spec["enum"])
    if "const" in spec:
        return f"`{spec['const']}`"
    if "$ref" in spec:
        return "its own fields, below"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {spec[name]:g}" for name, sign in bounds.items() if name in spec]
    words = {"null": "nothing", "object": "mapping", "array": "list", "string": "text"}
    word = words.get(spec.get("type", ""), spec.get("type", "as told"))
    return " ".join([word, ", ".join(limits)]).strip()


def shown(spec: dict[str, Any]) -> str:
    if "default" not in spec:
        return ""
    default = spec["default"]
    return "below" if isinstance(default, dict) and default else f"`{default}`"


def learners() -> str:
    """Every learner: what it is, its paper, its hyper-parameters."""
    from autometa.learners import LEARNERS
    from autometa.search.domains import describe

    body = ["# Learners", ""]
    for name in LEARNERS:
        learner = LEARNERS.load(name)
        rows = (
            [
                f"`{f.name}`",
                default(f.default),
                describe(f.metadata["domain"]),
                f.metadata["meaning"],
            ]
            for f in dataclasses.fields(learner.hyper_type)
        )
        body += [f"## {name}", "", first_line(learner), ""]
        body += [f"Paper: {learner.paper}. Problems: {', '.join(sorted(learner.problems))}.", ""]
        body.append(table(["hyper-parameter", "default", "searched domain", "what it is"], rows))
    return "\n".join(body)


def default(value: Any) -> str:
    if isinstance(value, float):
        return f"`{value:.4g}`"
    return f"{value.mode} {value.values}" if hasattr(value, "values") else f"`{value}`"


def first_line(member: Any) -> str:
    module = __import__(member.__module__, fromlist=["__doc__"])
    return str(module.__doc__).strip().splitlines()[0]


def backbones() -> str:
    """Every backbone space: its labels and their options."""
    from autometa.backbones import BACKBONES
    from autometa.report.listing import SHAPES

    body = [
        "# Backbones",
        "",
        "Options are those for 28×28 images, sequences of 128 or one number.",
    ]
    for name in BACKBONES:
        space = BACKBONES.load(name)()
        published = space.default()
        choices = space.choices(SHAPES[space.input_rank])
        rows = (
            [f"`{label}`", ", ".join(map(str, found)), published.get(label, "")]
            for label, found in choices.items()
        )
        body += ["", f"## {name}", "", f"{space.summary}.", ""]
        body.append(table(["label", "options", "published default"], rows))
    return "\n".join(body)


def datasets() -> str:
    """Every data set and its options."""
    from autometa.episodes import DATASETS, options_type

    body = ["# Data sets", ""]
    for name in DATASETS:
        fields = dataclasses.fields(options_type(name))
        body += [f"## {name}", "", first_line(DATASETS.load(name)), ""]
        rows = (
            [
                f"`{f.name}`",
                "required" if f.default is dataclasses.MISSING else f"`{f.default}`",
                f.metadata.get("meaning", ""),
            ]
            for f in fields
        )
        body.append(table(["option", "default", "what it is"], rows) if fields else "No options.\n")
    return "\n".join(body)


def commands() -> str:
    """Every command with its help."""
    import typer

    from autometa.cli import app

    body = [""]
    root = typer.main.get_command(app)

    def walk(command: Any, path: str) -> None:
        if hasattr(command, "commands"):
            for name, each in command.commands.items():
                walk(each, f"{path} {name}")
            return
        help_text = re.sub(r"^ *Example: (.+)$", r"`\1`", command.help or "", flags=re.MULTILINE)
        body.extend([f"## {path}", "", help_text.strip(), ""])
        context = command.context_class(command, info_name=path)
        rows = (
            [f"`{' / '.join([*p.opts, *p.secondary_opts])}`", getattr(p, "help", None) or ""]
            for p in command.get_params(context)
            if p.name != "help"
        )
        body.append(table(["argument or option", "what it is"], rows))

    walk(root, "autometa")
    return "\n".join(body)

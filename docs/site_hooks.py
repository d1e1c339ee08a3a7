# SPDX-License-Identifier: Apache-2.0
"""What MkDocs does not do by itself: the README and its neighbours as pages, Chinese pages in a half of their own, links to files.

The pages are written to be read in the repository too, so their links name files (``../README.md``, ``trust.zh-CN.md``,
``../configs/sdxl.yaml``). Here they become links to what the site makes of these files.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
DOCS = Path(__file__).parent
CHINESE = ".zh-CN.md"
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")
UNTRANSLATED = '!!! note "本页暂无中文版"\n    以下为英文原文。\n\n'


def is_chinese(config: MkDocsConfig) -> bool:
    """Whether this is the Chinese half of the site."""
    return str(config.theme["language"]) == "zh"


def site_name(source: Path) -> str:
    """The name in the site (``trust.md``, ``project/readme.md``) of a file of the repository, in any language."""
    page = source.with_name(source.name.replace(CHINESE, ".md"))
    if page.is_relative_to(DOCS):
        return page.relative_to(DOCS).as_posix()
    if page.suffix == ".md" and page.parent == ROOT:
        return f"project/{page.name.lower()}"
    return f"project/{page.relative_to(ROOT).as_posix()}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of the repository's root; in the Chinese half, translations take their originals' places."""
    for source in sorted(ROOT.glob("*.md")):
        if not source.name.endswith(CHINESE):
            files.append(File.generated(config, site_name(source), abs_src_path=str(source)))
    if is_chinese(config):
        for source in sorted([*ROOT.glob(f"*{CHINESE}"), *DOCS.rglob(f"*{CHINESE}")]):
            original = files.get_file_from_path(site_name(source))
            if original:
                files.remove(original)
            files.append(File.generated(config, site_name(source), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to where the site has them."""
    source = Path(str(page.file.abs_src_path))
    here = posixpath.dirname(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        text, path, anchor = match.groups(default="")
        target = Path(posixpath.normpath(source.parent / path))
        if not target.exists():
            return match[0]
        if target.is_dir():
            return text
        name = site_name(target)
        if target != source and (name == page.file.src_uri or (target.name.endswith(CHINESE) and not is_chinese(config))):
            return f'<a href="{other_half(page, config, name)}">{text}</a>'
        if not files.get_file_from_path(name):
            files.append(File.generated(config, name, abs_src_path=str(target)))
        if is_chinese(config) and target != translated(target):
            anchor = ""  # the translation has headings of its own
        return f"[{text}]({posixpath.relpath(name, here or '.')}{anchor})"

    led = LINK.sub(lead, markdown)
    return UNTRANSLATED + led if is_chinese(config) and not source.name.endswith(CHINESE) else led


def translated(source: Path) -> Path:
    """The Chinese page of an English one where there is one, otherwise the page itself."""
    chinese = source.with_name(source.name.removesuffix(".md") + CHINESE)
    return chinese if chinese.exists() and not source.name.endswith(CHINESE) else source


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The switch of languages leads to the same page. (A theme's links cannot lead out of the half that is being built.)"""
    here, there = posixpath.basename(page.file.dest_uri), other_half(page, config, page.file.src_uri)
    english, chinese = (there, here) if is_chinese(config) else (here, there)
    return output.replace('href="#english"', f'href="{english}"').replace('href="#chinese"', f'href="{chinese}"')


def other_half(page: Page, config: MkDocsConfig, name: str) -> str:
    """Where ``name`` is in the other language, from the page."""
    up = "../" * page.file.dest_uri.count("/")
    return f"{up}{'..' if is_chinese(config) else 'zh-CN'}/{name.removesuffix('.md')}.html"


def on_post_build(config: MkDocsConfig) -> None:
    """One build makes both halves."""
    if not is_chinese(config):
        chinese = load_config(str(ROOT / "mkdocs.zh-CN.yml"), strict=config.strict, site_dir=posixpath.join(config.site_dir, "zh-CN"))
        build(chinese)

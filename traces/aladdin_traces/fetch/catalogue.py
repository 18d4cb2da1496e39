"""Public traces that can be fetched: where they are published, under which licence, and what the file must hash to.

Addresses name a commit or a release where the publisher has one, so that what is fetched does not change. Hashes and
sizes come from the publishers' own Git LFS records (BurstGPT 1 and 2, Qwen coder and thinking, ShareGPT); Azure, the
Mooncake traces, RAGPulse, BurstGPT 3 and Qwen A and B are published without, and have those on which independent
copies agree.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from aladdin_traces.errors import InputError, suggest

_AZURE_PAGE = "https://github.com/Azure/AzurePublicDataset"
_AZURE_2023 = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/790921015d50dd6aae7f7e47f39ba0e235ad6b08/data"
_AZURE_2024 = (
    f"{_AZURE_PAGE}/releases/download/dataset-llm-2024",
    "https://azurepublicdatasettraces.blob.core.windows.net/azurellminfererencetrace",
)
_BURSTGPT_PAGE = "https://github.com/HPMLL/BurstGPT"
_MOONCAKE_PAGE = "https://github.com/kvcache-ai/Mooncake"
_MOONCAKE = (
    "https://raw.githubusercontent.com/kvcache-ai/Mooncake/3cca71daccf2a7afb8fe3f0295358f70e3a69fdb"
    "/FAST25-release/traces"
)
_QWEN_PAGE = "https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon"
_QWEN = (
    "https://media.githubusercontent.com/media/alibaba-edu/qwen-bailian-usagetraces-anon"
    "/5f7439c51ec248a0c585f7d90a41a6f57773b912"
)
_RAGPULSE_PAGE = "https://github.com/flashserve/RAGPulse"
_SHAREGPT_PAGE = "https://huggingface.co/datasets/anon8231489123/ShareGPT_Vicuna_unfiltered"


@dataclass(frozen=True)
class TraceSource:
    """A published trace.

    Attributes:
        name: What the user asks for; names the file in the cache.
        title: What it is, in a few words.
        format: Name of the reader that reads it, see `READERS`; None for an address of the user's.
        licence: Licence under which the publisher gives it, as an SPDX identifier; None for an address of the user's.
        page: Where the publisher describes it and says how to cite it.
        urls: Addresses of the same file, tried in turn.
        size_bytes: Size of the file; None where it is not known.
        sha256: Hash of the file, 64 lower-case hexadecimal digits; None where it is not known.
    """

    name: str
    title: str
    format: str | None
    licence: str | None
    page: str
    urls: tuple[str, ...]
    size_bytes: int | None = None
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the file in the cache: that of the source with the endings of the publisher's file."""
        endings = re.findall(r"\.[A-Za-z]\w{0,7}", _last_part(self.urls[0]))
        return self.name + "".join(endings[-2:] if endings[-1:] == [".gz"] else endings[-1:])


def source_named(name: str) -> TraceSource:
    """The source of the catalogue with this name.

    Raises:
        InputError: There is none; suggests the nearest.
    """
    if name not in SOURCES:
        raise InputError("name", name, suggest(name, SOURCES))
    return SOURCES[name]


def own_source(url: str, sha256: str | None = None) -> TraceSource:
    """A file at an address of the user's.

    Args:
        url: Address, http or https.
        sha256: Hash that the file must have; None takes what comes.

    Raises:
        InputError: No such address can be, or the hash is none.
    """
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isascii() and url.isprintable()
    except ValueError:  # brackets that do not match
        is_web = False
    if not is_web or " " in url:
        raise InputError("url", url, "give an address that begins with http:// or https://, without blanks")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise InputError("sha256", sha256, "give 64 hexadecimal digits, as sha256sum prints them")
    stem = re.sub(r"[^\w-]+", "-", _last_part(url).partition(".")[0])[:60].strip("-") or "trace"
    name = f"{stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"  # files of one name at two addresses stay apart
    return TraceSource(name, "file at an address", None, None, url, (url,), None, sha256 and sha256.lower())


def _last_part(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _azure_2024(service: str, file: str, size_bytes: int, sha256: str) -> TraceSource:
    title = f"{service}, a week of May 2024"
    urls = tuple(f"{base}/{file}" for base in _AZURE_2024)
    name = "azure-2024-conv" if service == "conversation" else "azure-2024-code"
    return TraceSource(name, title, "azure", "CC-BY-4.0", _AZURE_PAGE, urls, size_bytes, sha256)


def _burstgpt(part: int, days: str, size_bytes: int, sha256: str) -> TraceSource:
    url = f"{_BURSTGPT_PAGE}/releases/download/v2.0/BurstGPT_{part}.csv"
    title = f"Azure OpenAI at a university, {days}"
    return TraceSource(f"burstgpt-{part}", title, "burstgpt", "CC-BY-4.0", _BURSTGPT_PAGE, (url,), size_bytes, sha256)


def _mooncake(kind: str, title: str, size_bytes: int | None, sha256: str) -> TraceSource:
    url = f"{_MOONCAKE}/{kind}_trace.jsonl"
    return TraceSource(f"mooncake-{kind}", title, "mooncake", "Apache-2.0", _MOONCAKE_PAGE, (url,), size_bytes, sha256)


def _qwen(name: str, file: str, title: str, size_bytes: int, sha256: str) -> TraceSource:
    url = f"{_QWEN}/{file}_blksz_16.jsonl"
    return TraceSource(name, title, "qwen-bailian", "Apache-2.0", _QWEN_PAGE, (url,), size_bytes, sha256)


SOURCES: dict[str, TraceSource] = {
    source.name: source
    for source in (
        TraceSource(
            "azure-2023-conv", "conversation, an hour of November 2023", "azure", "CC-BY-4.0",
            _AZURE_PAGE, (f"{_AZURE_2023}/AzureLLMInferenceTrace_conv.csv",), 719_188,
            "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        ),
        TraceSource(
            "azure-2023-code", "code, an hour of November 2023", "azure", "CC-BY-4.0",
            _AZURE_PAGE, (f"{_AZURE_2023}/AzureLLMInferenceTrace_code.csv",), None,
            "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        ),
        _azure_2024(
            "conversation", "AzureLLMInferenceTrace_conv_1week.csv", 1_135_195_393,
            "a0cc9b969a9bbf0fd811802cbf4323edd3a209ace791e3799ad4f9207f213941",
        ),
        _azure_2024(
            "code", "AzureLLMInferenceTrace_code_1week.csv", 691_989_454,
            "71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f",
        ),
        TraceSource(
            "azure-2025", "text and images, a week of October 2024", "azure", "CC-BY-4.0", _AZURE_PAGE,
            (f"{_AZURE_PAGE}/raw/master/data/AzureLMMInferenceTrace_multimodal.csv.gz",),
        ),
        _burstgpt(
            1, "61 days", 52_283_111, "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122"
        ),
        _burstgpt(
            2, "60 days", 144_819_209, "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7"
        ),
        _burstgpt(
            3, "110 days", 231_682_327, "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f"
        ),
        _mooncake(
            "conversation", "Kimi, conversation, an hour", 3_029_533,
            "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        ),
        _mooncake(
            "toolagent", "Kimi, tools and agents, an hour", None,
            "48a2db1a13d3bc05e6330140c64f604ba366df20d3c9e128b5c35a01c1fa5f71",
        ),
        _mooncake(
            "synthetic", "from public datasets, 17 minutes", 1_136_313,
            "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
        ),
        _qwen(
            "qwen-bailian-a", "qwen_traceA", "chat (trace A), two hours", 56_354_493,
            "07cedc9ed8aff301994ac68ed4aede8123b7603673575eeba9dd677de663db17",
        ),
        _qwen(
            "qwen-bailian-b", "qwen_traceB", "API calls (trace B), two hours", 96_209_982,
            "68e3f98e2d601d60d0abf4b89bc8a3654372abab7b1cde6373a13d0054379d59",
        ),
        _qwen(
            "qwen-bailian-coder", "qwen_coder", "coder, two hours", 132_054_902,
            "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff",
        ),
        _qwen(
            "qwen-bailian-thinking", "qwen_thinking", "thinking, two hours", 27_901_454,
            "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906",
        ),
        TraceSource(
            "ragpulse", "answers with retrieval, a week", "ragpulse", "MIT", _RAGPULSE_PAGE,
            ("https://raw.githubusercontent.com/flashserve/RAGPulse/99a62769a91d5ebd17a2d4ddbbc88c1d16edc0e8"
             "/data/0_trace.jsonl",), 1_923_473, "cd371571bef3320907147f8901729e37f412aafb067ec8eb153e2828e1801e65",
        ),
        TraceSource(
            "sharegpt", "conversations as text, without times", "sharegpt", "Apache-2.0", _SHAREGPT_PAGE,
            (f"{_SHAREGPT_PAGE}/resolve/bcd32a724d8460ebe14e1d05b0195e30e9a46cb1"
             "/ShareGPT_V3_unfiltered_cleaned_split.json",), 672_837_942,
            "35f0e213ce091ed9b9af2a1f0755e9d39f9ccec34ab281cd4ca60d70f6479ba4",
        ),
    )
}  # fmt: skip
"""All sources by name."""

"""A few hand-written rows of every format, and files of them."""

import io
from pathlib import Path

import pandas as pd

AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-12 00:00:00+00:00,1452,3\n"
    "2024-05-12 00:00:00.041683+00:00,584,3\n"
)
AZURE_2025 = (
    "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
    "2024-10-15T12:00:00.269Z,0,770,491\n"
    "2024-10-15T12:00:05.819Z,1,949,126\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,GPT-4,1087,230,1317,API log\n"
    "45,ChatGPT,0,0,0,Conversation log\n"
    "118,ChatGPT,417,276,693,Conversation log\n"
)
BURSTGPT_3 = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "19440110.0,aa-1,43,GPT-4,906,446,1352,Conversation log\n"
    "19440161.0,,2,ChatGPT,36,29,65,API log\n"
    "19440192.0,aa-1,8,GPT-4,1779,123,1902,Conversation log\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 1000, "output_length": 52, "hash_ids": [46, 47]}\n'
    '{"timestamp": 10535, "input_length": 672, "output_length": 26, "hash_ids": [46, 48]}\n'
)
AIPERF = (
    '{"timestamp": 0, "input_length": 655, "output_length": 52, "session_id": "a"}\n'
    '{"input_length": 900, "output_length": 10, "session_id": "a", "delay": 500, "hash_ids": [1, 2]}\n'
    '{"timestamp": 250, "text_input": "What is the capital of France?", "output_length": 20}\n'
)
AIPERF_MULTI_TURN = '{"session_id": "a", "turns": [{"text": "12345678", "delay": 0}, {"text": "1234", "delay": 500}]}\n'
AIPERF_SINGLE_TURN = '{"text": "one two three", "timestamp": 0}\n{"text": "four", "timestamp": 1500}\n'
QWEN = (
    '{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 521, "output_length": 132, '
    '"type": "text", "turn": 1, "hash_ids": [1089, 1090, 1091]}\n'
    '{"chat_id": 160, "parent_chat_id": 159, "timestamp": 62.5, "input_length": 400, "output_length": 80, '
    '"type": "text", "turn": 2, "hash_ids": [1089, 1090]}\n'
    '{"chat_id": 161, "parent_chat_id": 7, "timestamp": 63.0, "input_length": 40, "output_length": 8, '
    '"type": "text", "turn": 2, "hash_ids": []}\n'
    '{"chat_id": 162, "parent_chat_id": 160, "timestamp": 63.0, "input_length": 40, "output_length": 8, "turn": 3}\n'
)
RAGPULSE = (
    '{"timestamp": "27", "input_length": 3861, "output_length": 127, '
    '"hash_ids": {"sys_prompt": [1], "user_input": [2]}, "session_id": "s1"}\n'
    '{"timestamp": "25", "input_length": 10, "output_length": 5, "hash_ids": {}, "session_id": "s2"}\n'
    '{"timestamp": "30", "input_length": 3900, "output_length": 12, "hash_ids": {}, "session_id": "s1"}\n\n'
)
SERVEGEN = '{"request_id": 0, "type": "multimodal", "input_length": 1207, "output_length": 495, "duration": 13254}\n'
SERVEGEN_RATES = (
    "600,0.35,1.17,Gamma,0.72,3.87\n1200,0.37,1.3,Weibull,0.75,2.99\n1800,0.0,0.0,,0.0,0.0\n2400,0.1,1.0,Poisson,1,1\n"
)
SERVEGEN_LAWS = (
    '{"0": {"input_tokens": "{138: 0.25, 140: 0.75}", "output_tokens": "{7: 1.0}"}, '
    '"1800": {"input_tokens": "{}", "output_tokens": "{}"}, '
    '"2400": {"input_tokens": "{20: 4e-1, 0: 0.6}", "output_tokens": "{9: 1.0}"}}'
)
SHAREGPT = (
    '[\n  {"id": "1", "conversations": [{"from": "human", "value": "Hello there, you!"}, '
    '{"from": "gpt", "value": "Hi! How can I help you today?"}]},\n'
    '  {"id": "2", "conversations": [{"from": "gpt", "value": "..."}, {"from": "user", "value": "Hm"}, '
    '{"from": "gpt", "value": "What?"}]},\n'
    '  {"id": "3", "conversations": [{"from": "human", "value": "Anyone?"}]}\n]\n'
)
VLLM_CUSTOM = '{"prompt": "What is the capital of India?"}\n{"prompt": "And of Iran?", "output_tokens": 7}\n'
GUIDELLM = (
    '{"timestamp": 1234500.0, "input_length": 256, "output_length": 128}\n'
    '{"timestamp": 1234502.5, "input_length": 25, "output_length": 12}\n'
)
GUIDELLM_CSV = "timestamp,input_length,output_length\n1234500.0,256,128\n1234502.5,25,12\n"
VIDUR = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.25,396,109\n"
VIDUR_LENGTHS = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n74,918,992,0.08\n290,905,1195,0.32\n"
LLMSERVINGSIM = '{"input_toks": 1472, "output_toks": 133, "arrival_time_ns": 4059740}\n'
LLMSERVINGSIM_AGENTIC = (
    '{"session_id": "s", "arrival_time_ns": 0, "sub_requests": ['
    '{"input_toks": 1472, "output_toks": 133, "tool_duration_ns": 2000000000}, '
    '{"input_toks": 1582, "output_toks": 125, "tool_duration_ns": 0}]}\n'
    '{"session_id": "t", "arrival_time_ns": 1000000000, "sub_requests": [{"input_toks": 5, "output_toks": 6}]}\n'
)
WEKA = (
    '{"id": "one", "models": ["m"], "block_size": 64, "hash_id_scope": "local", "requests": ['
    '{"t": 0.0, "type": "n", "model": "m", "in": 128, "out": 16, "hash_ids": [5, 6], "api_time": 6.6}, '
    '{"t": 2.0, "type": "subagent", "requests": ['
    '{"t": 2.0, "type": "s", "model": "n", "in": 64, "out": 3, "hash_ids": [5]}]}, '
    '{"t": 1.0, "type": "n", "model": "m", "in": 192, "out": 1, "hash_ids": [5, 6, 7]}]}\n'
    '{"id": "two", "block_size": 64, "requests": [{"t": 0.5, "type": "n", "in": 64, "out": 2, "hash_ids": [5]}]}\n'
)
PLAIN = "arrival_s,prompt_tokens,output_tokens\n0.5,10,20\n1.25,30,40\n"
PLAIN_FULL = (
    "arrival_s,prompt_tokens,output_tokens,klass,session,model,request_id,prefix_blocks,block_size\n"
    "0.5,10,20,0,a,m,007,1 2,16\n1.25,30,40,3,,m,008,,16\n"
)
PLAIN_LENGTHS = "prompt_tokens,output_tokens\n10,20\n30,40\n"


def parquet(csv: str) -> bytes:
    """The table of a CSV text as a Parquet file."""
    packed = io.BytesIO()
    pd.read_csv(io.StringIO(csv)).to_parquet(packed, index=False)
    return packed.getvalue()


SAMPLES: dict[str, tuple[str, str | bytes]] = {
    "azure 2023": ("azure", AZURE_2023),
    "azure 2024": ("azure", AZURE_2024),
    "azure 2025": ("azure", AZURE_2025),
    "azure in Parquet": ("azure", parquet(AZURE_2024)),
    "burstgpt 1": ("burstgpt", BURSTGPT),
    "burstgpt 3": ("burstgpt", BURSTGPT_3),
    "mooncake": ("mooncake", MOONCAKE),
    "aiperf": ("aiperf", AIPERF),
    "aiperf multi_turn": ("aiperf", AIPERF_MULTI_TURN),
    "aiperf single_turn": ("aiperf", AIPERF_SINGLE_TURN),
    "aiperf of lengths": ("aiperf", '{"timestamp": 5, "input_length": 6, "output_length": 7}'),
    "qwen-bailian": ("qwen-bailian", QWEN),
    "ragpulse": ("ragpulse", RAGPULSE),
    "servegen": ("servegen", SERVEGEN),
    "sharegpt": ("sharegpt", SHAREGPT),
    "vllm custom": ("vllm-custom", VLLM_CUSTOM),
    "guidellm": ("guidellm", GUIDELLM),
    "guidellm in JSON": ("guidellm", "[" + GUIDELLM.strip().replace("\n", ",\n") + "]"),
    "guidellm in CSV": ("guidellm", GUIDELLM_CSV),
    "guidellm in Parquet": ("guidellm", parquet(GUIDELLM_CSV)),
    "vidur": ("vidur", VIDUR),
    "vidur lengths": ("vidur", VIDUR_LENGTHS),
    "llmservingsim": ("llmservingsim", LLMSERVINGSIM),
    "llmservingsim agentic": ("llmservingsim", LLMSERVINGSIM_AGENTIC),
    "weka": ("weka", WEKA),
    "plain": ("csv", PLAIN),
    "plain with everything": ("csv", PLAIN_FULL),
    "plain lengths": ("csv", PLAIN_LENGTHS),
    "plain in Parquet": ("csv", parquet(PLAIN)),
}
"""What each file is, its format and its content."""


def sample_bytes(name: str) -> bytes:
    """The content of a sample."""
    content = SAMPLES[name][1]
    return content if isinstance(content, bytes) else content.encode()


def servegen_client(folder: Path, rates: str | bytes = SERVEGEN_RATES, laws: str | bytes = SERVEGEN_LAWS) -> Path:
    """Write a client of ServeGen, whose two files find each other by their names; return the first."""
    written(folder, laws, "chunk-0-dataset.json")
    return written(folder, rates, "chunk-0-trace.csv")


def written(folder: Path, content: str | bytes, name: str = "trace") -> Path:
    """Write a file whose name says nothing of its format."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path

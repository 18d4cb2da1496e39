"""The reader of metrics pages: what is summed, what is the largest, and that the missing is unknown."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aladdin_env.bridge.workers.scrape import Scrape, parse

PAGE = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:num_requests_waiting{engine="1",model_name="m"} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.75
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
# TYPE vllm:num_preemptions counter
vllm:num_preemptions_total{engine="0",model_name="m"} 1.0
vllm:num_preemptions_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total{engine="0",model_name="m"} 1000.0
vllm:prompt_tokens_total{engine="1",model_name="m"} 500.0
vllm:prompt_tokens_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:generation_tokens counter
vllm:generation_tokens_total{engine="0",model_name="m"} 70.0
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 1000.0
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 250.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1",model_name="m"} 4.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf",model_name="m"} 5.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 5.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.5
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 4.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 9.0
http_requests_total{handler="/v1/completions",method="POST",status="2xx"} 6.0
http_requests_total{handler="/metrics",method="GET",status="2xx"} 900.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="0",num_gpu_blocks="1002"} 1.0
vllm:cache_config_info{block_size="16",cache_dtype="auto",engine="1",num_gpu_blocks="1002"} 1.0
"""


def test_a_page_of_two_engines() -> None:
    seen = parse(PAGE)
    assert seen is not None
    assert (seen.running, seen.waiting, seen.busy, seen.engines) == (7.0, 2.0, 9, 2)
    assert seen.kv_usage == 0.75
    assert (seen.preemptions, seen.prompt_tokens, seen.generation_tokens) == (1.0, 1500.0, 70.0)
    assert (seen.queried_tokens, seen.hit_tokens) == (1000.0, 250.0)
    assert (seen.begun, seen.finished, seen.asked) == (5.0, 4.0, 6.0)
    assert (seen.block_size, seen.num_gpu_blocks) == (16, 1002)
    assert seen.kv_capacity_tokens == 1000 * 16  # each engine sets a block aside


def test_what_is_missing_is_unknown_and_what_is_zero_is_not() -> None:
    assert parse("vllm:num_requests_waiting 0.0\n") == Scrape(waiting=0.0)
    assert parse("vllm:num_requests_waiting NaN\nvllm:num_requests_running 1\n") == Scrape(running=1.0)
    unset = parse('vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1.0\n')
    assert unset is not None
    assert (unset.block_size, unset.num_gpu_blocks, unset.kv_capacity_tokens) == (16, None, None)


@pytest.mark.parametrize(
    "page", ["", "<html>no</html>", "some_other_metric 1.0\n", "vllm:num_requests_running{engine= 3.0\n"]
)
def test_a_page_without_what_we_know_is_none(page: str) -> None:
    assert parse(page) is None


def test_without_the_library_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules.update(prometheus_client=None)\n"
        "from aladdin_env.bridge.workers.scrape import parse\n"
        "try: parse('')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert "pip install 'aladdin-env[serve]'" in done.stdout

# SPDX-License-Identifier: Apache-2.0
"""The text task: how questions and answers are trained, judged and sampled."""

from __future__ import annotations

from loraforge import Evaluation, Sampling, Start, Task

from .evaluation.general_knowledge import choice_questions
from .evaluation.measures import HEADLINE, LOWER_IS_BETTER, TRUTH, fingerprint, generation, judge, overlap
from .records import Conversation, TextKeys, TextSampling
from .starting.columns import guess
from .starting.examples import examples
from .starting.lines import BASE, PROBE, first_lines, suggest
from .starting.llama_factory import LLAMA_FACTORY

TEXT: Task[Conversation] = Task(
    name="text",
    help="A language model that answers questions like the examples.",
    record=Conversation,
    loader="table",
    template="auto",
    exporters=("peft",),
    keys=TextKeys,
    aliases=("text-generation", "causal-lm"),
    unit="tokens",
    items="questions",
    question=lambda record: record.question,
    answer=lambda record: record.output,
    fingerprint=fingerprint,
    cautions=(
        "Its answers can be wrong and still sound sure; articles, doses and figures in them must be looked up.",
        "The measures count words, citations and endings. Whether an answer is right in law or medicine, experts judge.",
    ),
    evaluation=Evaluation(
        judge=judge,
        headline=HEADLINE,
        truth=TRUTH,
        lower_is_better=LOWER_IS_BETTER,
        generation=generation,
        overlap=overlap,
        general_knowledge=choice_questions,
    ),
    start=Start(BASE, first_lines, PROBE, guess, suggest, examples, (LLAMA_FACTORY,)),
    sampling=Sampling(ask=lambda question: Conversation(where="question", instruction=question), settings=TextSampling),
)

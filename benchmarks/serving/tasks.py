"""What people ask, in three kinds that repeat themselves differently: questions, questions about a text, and code."""

from benchmarks.serving.prompts import Messages

_QUESTIONS = (
    "What is the capital of France, and what is it known for?",
    "Explain how photosynthesis works.",
    "How do I boil an egg?",
    "What are the benefits of regular exercise?",
    "Who was Albert Einstein?",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "Write a short story about a dragon.",
)
_REPORT = (
    "The harbour of Ostwick was closed on Tuesday after a crane fell into the main basin during the storm. Nobody "
    "was hurt, but two fishing boats were sunk and the ferry Margarethe lost her mooring and drifted against the "
    "northern pier. The harbour master, Ines Caldwell, said that the basin would stay closed until divers had "
    "looked at the pier, which was built in 1931 and repaired in 1988. The ferry company expects to sail again on "
    "Friday from the old quay at Low Ostwick, four kilometres to the south. Until then passengers are taken by "
    "bus to Fennmouth. The owner of the crane, Ostwick Lifting, said that it had been secured as the rules ask "
    "for winds of up to 110 kilometres an hour; the weather station measured gusts of 134."
)
_ABOUT_THE_REPORT = (
    "Summarise this report in two sentences.",
    "Who is the harbour master, and what did she say?",
    "Rewrite this report in simpler words.",
    "List all places and dates in this report.",
    "What happened to the ferry, and when will it sail again?",
    "Correct the spelling of this report and print it again.",
    "What did the owner of the crane say?",
    "Write a headline and a short social media post about this report.",
)
_CODE = (
    "Write a Python function that reverses a string.",
    "Write a Python class for a stack with push and pop.",
    "Write a JavaScript function that sorts an array of objects by a key.",
    "Write SQL to create tables for users and their orders.",
    "Write HTML for a login form.",
    "Write a C program that prints the primes below 100.",
    "Write a Python script that reads a CSV file and prints the mean of each column.",
    "Write a bash script that backs up a folder.",
)

TASKS: dict[str, tuple[Messages, ...]] = {
    kind: tuple([{"role": "user", "content": text}] for text in texts)
    for kind, texts in {
        "questions": _QUESTIONS,
        "documents": tuple(f"{question}\n\n{_REPORT}" for question in _ABOUT_THE_REPORT),
        "code": _CODE,
    }.items()
}

"""Text that tokenizers get wrong."""

# ruff: noqa: RUF001  # characters that look alike are the point

AWKWARD = [
    "",
    " ",
    "  \n\n\t  \r\n   end",
    "Hello, world! It's John's; we'll see. DON'T, I'VE",
    "a  b   c    d     \n  e",
    "trailing spaces   ",
    "   leading spaces",
    "\ttabs\t\tand\n\n\nnewlines\r\nmixed\r",
    "0 1 12 123 1234 12345 3.14159 1,000,000 ½ ² Ⅷ ٣٤ 12ab34",
    "def f(x: int) -> str:\n    if x == 0:\n        return f'{x!r}'  # ok\n\treturn \"\\n\"",
    "你好，世界。日本語のテキスト、한국어 텍스트",
    "👍🏽 👩‍👩‍👧‍👦 🇩🇪 e\u0301 ﬁ \u200b zero\u200bwidth \ufeff",
    "Привет, мир! Γειά σου Κόσμε. مرحبا بالعالم हिन्दी ภาษาไทย",
    "naïve café Ünïcödé ß ẞ İ ı ſ's",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>",
    "< |im_start|> <|im_start <|im_end|><|im_end|>x<|im_end|>",
    "no\xa0break\u2003em\u3000ideographic \x85 next\u2028line",
    "http://example.com/?q=a+b&c=%20#x user@example.org C:\\path\\file.txt",
    "$100 €50 ± × ÷ ∑ √ ≤ 𝔘𝔫𝔦 \U0001f9ff",
    "\x00\x01\x7f control \x1b[0m",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "'s 't 're 've 'm 'll 'd 'S 'LL '",
]

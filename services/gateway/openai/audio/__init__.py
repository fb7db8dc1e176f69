"""OpenAI's audio routes: `/v1/audio/transcriptions` and `/v1/audio/translations`.

| file | what |
|---|---|
| `api` | the routes |
| `form` | the form of a request, its file in a temporary one |
| `sound` | a file of any format as samples, by a process of its own with limits |
| `decode` | that process |
| `windows` | sound in windows of 30 s, one generation each |
| `segments` | pure: parts of a text with their times |
| `formats` | pure: json, text, srt, vtt, verbose_json |
"""

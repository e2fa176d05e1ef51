"""What speaks to Redis. It may lose everything at any moment: nothing here is the truth, and nobody
waits for it on a request's path.

Every key, all under `pointsman:`:

| key | type | TTL | what it is |
|---|---|---|---|
| `fresh`, `retry`, other lanes | list | – | Celery messages: hints |
| `unacked` | hash | – | kombu's own: messages in hand |
| `unacked_index` | sorted set | – | kombu's own: since when they are in hand |
| `unacked_mutex` | string | seconds | kombu's own: who restores what was lost |
| `_kombu.binding.*` | set | – | kombu's own: lanes |
| `probe` | string | 60 s | written to see whether Redis takes writes |
| `probe.*` | each of these | – | made and removed at a start, to see whether we may (fitness.py) |

Channel `pointsman:settled`: trigger ids of 16 bytes, one behind another (settlements.py).
"""

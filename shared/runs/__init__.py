"""Everything that moves a run or an execution.

A statement that changes `runs` or `action_executions` stands here and nowhere else.

    run          ──(a) enter──▶ PENDING ──(b) claim──▶ RUNNING ──(g) settle──▶ gone, with a log row
                                 ▲                       │
                                 └──(c) park · (d) release · (e) strand · (f) void──┘
                 PENDING | RUNNING ──(h) cancel──▶ gone, with a log row  ──(k) purge──▶ without
                 PENDING           ──(i) give up──▶ gone, with a log row

    execution    ──(b)──▶ PENDING ──(b) first step, (l) later──▶ RUNNING ──(m)──▶ SUCCESS | FAILED
                           │  ▲                                          │
                           │  └──────────(m) retry · (d) · (e) · (f)─────┘
                           └──(h) cancel, (m) earlier step failed, switched off, deleted──▶ FAILED

| arrow | who | where |
|---|---|---|
| a | the ingress; a replay | enter.py, replay.py |
| b | a worker's claim | claim.py |
| c | a run whose next attempt is due later | give_back.py `park` |
| d | a worker that is told to stop | give_back.py `release` |
| e | the reconcile: PostgreSQL says ours, memory does not | give_back.py `release_stranded` |
| f | the sweep of another worker, when this one has died | give_back.py `void` |
| g | the journal, when every execution has ended | settle.py `settle` |
| h | a user | settle.py `cancel` |
| i | a claim that finds rows that cannot be read | claim.py `lock_pending`, settle.py `settle` |
| k | the purge, when the callback is deleted; without a log row | purge.py |
| l, m | the journal, under the fence | fence.py `write` |

Hinting (remind.py) moves no arrow: it changes when the sweep looks next.

In a statement with a list of executions, `BETWEEN e.trigger_id AND e.trigger_id` is `=` in other
words. It leaves PostgreSQL one way: for each element of the list it looks into the index. With `=`,
and rows of one day alone to choose from, it reads the list anew for each row that it finds.

**Lock order, everywhere**: runs before executions, each in ascending order of the ids. What must
not wait skips what is locked.
"""

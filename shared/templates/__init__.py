"""Templates and conditions: Liquid, as far as it is bounded.

A template is a text with `{{ … }}` or `{% … %}`, a condition an expression that is true or false.
Both read one trigger, its callback and what earlier actions were answered (scope.py). Invariants:

- What parses here names only what there is, with tags and filters that are allowed (names.py,
  language.py, filters.py).
- A number keeps the text that it has in the JSON that it comes from.
- What is put into a URL, a header or a JSON text cannot leave its place (targets.py).
- Only look-ups are evaluated in this process (look_ups.py), and few at a time. All else is rendered
  in a child process that a time limit ends (apart.py).
"""

"""The page's template: everything inline, no request to anywhere, light or dark as the reader's system is."""

STYLE = """
:root { --text: #1f2328; --muted: #59636e; --paper: #ffffff; --card: #f6f8fa; --line: #d1d9e0; --grid: #e3e8ed;
  --accent: #0b61a4; --warn: #9a6700; --best: #dff3e4; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9198a1; --paper: #0d1117; --card: #151b23;
  --line: #3d444d; --grid: #2b323b; --accent: #58a6ff; --warn: #d29922; --best: #12361f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 1180px; background: var(--paper); color: var(--text);
  font: 15px/1.5 -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .4rem 0; max-width: 78ch; }
a { color: var(--accent); }
.muted, figcaption, caption { color: var(--muted); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .75rem; margin: 1.25rem 0; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .6rem .8rem; }
.facts b { display: block; font-size: 1.15rem; font-weight: 600; overflow-wrap: anywhere; }
.facts span { color: var(--muted); font-size: .85rem; }
.caveats { border-left: 4px solid var(--warn); background: var(--card); padding: .6rem 1rem; margin: 1rem 0;
  border-radius: 0 8px 8px 0; }
.caveats ul { margin: .3rem 0; padding-left: 1.2rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; min-width: 40%; }
caption { text-align: left; padding: .3rem 0; font-size: .86rem; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 4.5rem; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper); }
tbody tr:hover td { background: var(--card); }
table.verdicts td { text-align: left; }
table.verdicts th { text-align: left; min-width: 9rem; }
.tie { color: var(--muted); }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .35em; }
.who { margin-right: .6em; white-space: nowrap; }
figure { margin: .75rem 0; overflow-x: auto; }
figcaption { font-size: .86rem; max-width: 78ch; }
svg.plot { width: 100%; height: auto; display: block; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; overflow-x: auto;
  font: 12.5px/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
details > summary { cursor: pointer; color: var(--accent); margin: .5rem 0; }
nav a { margin-right: 1rem; white-space: nowrap; }
@media print { body { max-width: none; } details > * { display: block; } }
"""

PAGE = """
{%- macro named(policy) -%}
<span class="who"><span class="dot" style="background: {{ colours[policy] }}"></span>{{ policy }}</span>
{%- endmacro -%}
{%- macro table(one) -%}
<div class="scroll"><table>
<thead><tr>{% for cell in one.columns %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>{% for row in one.rows %}<tr>{% for cell in row %}<td>
{%- if loop.first and cell in colours %}{{ named(cell) }}{% else %}{{ cell }}{% endif -%}
</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{%- endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{{ name }} – Forebay comparison</title>
<style>{{ style | safe }}</style>
</head>
<body>
<header>
<h1>{{ name }}</h1>
<p class="muted">A comparison of {{ policies | length }} {{ "policy" if policies | length == 1 else "policies" }} by
Forebay's simulator: the engines and policies of the live services, in virtual time.</p>
<div class="facts">
{% for value, label in facts %}<div><b>{{ value }}</b><span>{{ label }}</span></div>
{% endfor %}</div>
<nav>{% for section in sections %}<a href="#{{ section.id }}">{{ section.title }}</a>{% endfor %}</nav>
</header>
{% if caveats %}<div class="caveats"><b>Before you believe it</b><ul>
{% for one in caveats %}<li>{{ one }}</li>
{% endfor %}</ul></div>{% endif %}
{% for section in sections %}
<section id="{{ section.id }}">
<h2>{{ section.title }}</h2>
{% for text in section.texts %}<p>{{ text }}</p>
{% endfor %}
{% if section.id == "winners" %}
<div class="scroll"><table class="verdicts">
<thead><tr><th scope="col">measure</th>
{%- for load in loads %}<th scope="col">load {{ load }}</th>{% endfor %}</tr></thead>
<tbody>{% for label, cells in verdicts %}<tr><td>{{ label }}</td>{% for one in cells %}<td>
{%- if one is none %}–
{%- elif one.names | length == 0 %}<span class="tie">all tie</span>
{%- else %}{% for policy in one.names %}{{ named(policy) }}{% endfor -%}
<span class="tie">{{ one.remark }}</span>{% endif -%}
</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>
{% endif %}
{% for shown in section.parts %}
{% if shown.title and shown.folded %}<details><summary>{{ shown.title }}</summary>
{% elif shown.title %}<h3>{{ shown.title }}</h3>{% endif %}
{% if shown.svg %}<figure>{{ shown.svg | safe }}<figcaption>{{ shown.caption }}</figcaption></figure>{% endif %}
{% if shown.table %}{{ table(shown.table) }}{% endif %}
{% if shown.code %}<pre>{{ shown.code }}</pre>{% endif %}
{% if shown.title and shown.folded %}</details>{% endif %}
{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""

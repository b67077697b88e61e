"""The report's page: layout and style. A `string.Template` with the fields that `report.render_report`
fills."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root {
  --bg: #f6f5f2; --card: #ffffff; --ink: #1d1c22; --soft: #67646f; --line: #e4e1da;
  --a: #2a5bd0; --a-soft: #2a5bd03d; --b: #c8601a; --base: #8a8792; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #121316; --card: #1b1d22; --ink: #eceae6; --soft: #a19ea9; --line: #30333b;
    --a: #82a9ff; --a-soft: #82a9ff4d; --b: #f0a35e; --base: #7f7c88; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--bg); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%;
}
main { max-width: 1040px; margin: 0 auto; padding: clamp(20px, 5vw, 56px) clamp(14px, 4vw, 32px); }
header { margin-bottom: 28px; }
.kicker { margin: 0; color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
h1 { margin: 2px 0 0; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { margin: 2px 0 0; font-size: 1.25rem; line-height: 1.3; letter-spacing: -.005em; overflow-wrap: anywhere; }
h3 { margin: 0; font-size: 1rem; line-height: 1.35; overflow-wrap: anywhere; }
article { margin-top: 44px; }
article header { margin-bottom: 16px; }
a { color: var(--a); }
.card, figure, section {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px; margin: 0; min-width: 0;
}
.top { display: grid; gap: 20px 40px; }
@media (min-width: 760px) { .top { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); } }
.top > div { align-self: center; min-width: 0; }
.big { margin: 0; color: var(--soft); font-size: 1rem; }
.big span { color: var(--ink); font-size: clamp(2.75rem, 9vw, 4rem); font-weight: 650;
  letter-spacing: -.03em; line-height: 1; }
.lead { margin: 10px 0 0; max-width: 34em; text-wrap: pretty; }
.warn { color: var(--bad); }
.grid { display: grid; gap: 16px; margin-top: 16px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); }
.stack { display: grid; gap: 16px; margin-top: 16px; }
.stack:empty { display: none; }
.scroll { overflow-x: auto; }
.columns th, .columns td { padding-right: 0; white-space: nowrap; }
.columns tbody th, .columns tbody td { overflow-wrap: normal; }
.columns thead th { text-align: right; padding-left: 12px; border-top: 0; font-size: .8125rem; }
.columns thead th:first-child { text-align: left; padding-left: 0; }
.columns tbody tr:first-child > * { border-top: 1px solid var(--line); }
.note { margin: 8px 0 0; color: var(--soft); font-size: .8125rem; }
.facts { columns: 400px; column-gap: 16px; margin-top: 16px; }
.facts > * { break-inside: avoid; margin-bottom: 16px; }
table { width: 100%; border-collapse: collapse; font-size: .875rem; }
section table { margin-top: 8px; }
th, td { padding: 6px 0 6px 12px; text-align: right; vertical-align: baseline; border-top: 1px solid var(--line); }
th { padding-left: 0; text-align: left; font-weight: 400; color: var(--soft); overflow-wrap: anywhere; }
td { overflow-wrap: anywhere; }
tr:first-child > th, tr:first-child > td { border-top: 0; }
.compare thead th { text-align: right; white-space: nowrap; padding-left: 12px; border: 0; font-size: .8125rem; }
.compare tbody tr:first-child > * { border-top: 1px solid var(--line); color: var(--ink); font-weight: 600; }
.compare td { white-space: nowrap; }
.compare tbody th { min-width: 8em; overflow-wrap: normal; }
.compare .bar { display: block; height: 6px; margin: 4px 0 3px; border-radius: 3px; }
figcaption { margin-top: 8px; color: var(--soft); font-size: .8125rem; text-wrap: pretty; }
.legend:empty { display: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; margin: 4px 0 8px; color: var(--soft); font-size: .8125rem; }
.legend i { display: inline-block; width: 12px; height: 3px; margin-right: 6px; border-radius: 2px;
  vertical-align: middle; }
footer { margin-top: 24px; color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 13px; fill: var(--soft); }
svg .mid { text-anchor: middle; }
svg .end { text-anchor: end; }
svg .note { font-size: 12.5px; }
svg .strong { fill: var(--ink); }
svg .on-fill { fill: var(--card); }
svg .cell { stroke: var(--line); stroke-width: .5; }
svg .rule { stroke: var(--line); fill: none; }
svg .axis { stroke: var(--soft); fill: none; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.thin { stroke-width: 1.25; }
.dashed { stroke-dasharray: 5 4; }
.a { stroke: var(--a); } .b { stroke: var(--b); } .base { stroke: var(--base); }
.fill-a { fill: var(--a); } .fill-b { fill: var(--b); }
.fill-base { fill: var(--base); } .fill-bad { fill: var(--bad); }
.fill-card { fill: var(--card); }
.bg-a { background: var(--a); } .bg-b { background: var(--b); } .bg-base { background: var(--base); }
.ring { stroke: var(--card); stroke-width: 1.5; }
.ring-a { stroke: var(--a); stroke-width: 2; }
.ring-base { stroke: var(--base); stroke-width: 2; }
.violin { fill: var(--a-soft); stroke: var(--a); stroke-width: 1.25; }
@media print { body { background: #fff; } figure, section, .card { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<header><p class="kicker">$kicker</p><h1>$title</h1></header>
$summary
$targets
<article><header><h2>The run</h2></header><div class="facts">$run</div></article>
<footer>$foot</footer>
</main>
</body>
</html>
"""

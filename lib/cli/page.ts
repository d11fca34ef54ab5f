import { forPeople, plain } from '../core/index.js'
import { type Counts, listed, type Logged, type Report, total } from '../work/index.js'

/*
 * The report as one page: no script, no network, light and dark. The numbers stand in it once more as JSON.
 */

export function page(report: Report, all: Logged[], scope: string): string {
  const { since, until, events, totals, pairs, skips, holds, waits, incidents, resources, owners } = report
  const shown = all.filter(({ at }) => at >= since && at <= until)
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lockpact: who was in whose way</title>
<style>${STYLE}</style>
<h1>Who was in whose way</h1>
<p>${escaped(scope)}<br>${short(since)} to ${short(until)} UTC, ${events} ${events === 1 ? 'event' : 'events'}${events > 0 ? `: ${escaped(listed(totals))}` : ''}</p>
${shown.length === 0 ? '<p>Nothing happened.</p>' : timeline(shown, report)}
${table('What stomped what', ['count', 'who', 'against', 'last', 'what'], pairs.map(({ count, by, against, last, what }) => [count, by, against, short(last), what.join(' ')]))}
${table('Skipped', ['count', 'who', 'reason', 'because of', 'last', 'what'], skips.map(({ count, by, reason, against, last, what }) => [count, by, reason, against, short(last), what]))}
${table('Recovered, lost, broken', ['when', 'event', 'who', 'from', 'why', 'what'], incidents.map(({ at, type, by, against, why, what }) => [short(at), type, by, against, why, what]))}
${table('Longest holds', ['held', 'who', 'ended', 'what'], holds.map(({ ms, by, at, what }) => [forPeople(ms), by, short(at), what]))}
${table('Longest waits', ['waited', 'who', 'for', 'ended', 'what'], waits.map(({ ms, by, against, at, what }) => [forPeople(ms), by, against, short(at), what]))}
${table('By resource', ['events', 'held', 'what', ''], resources.map(({ what, ...each }) => [...sums(each), what, listed(countsIn(each))]))}
${table('By owner', ['events', 'held', 'owner', ''], owners.map(({ owner, ...each }) => [...sums(each), owner, listed(countsIn(each))]))}
<script type="application/json" id="report">${JSON.stringify({ ...report, scope }).replaceAll('<', '\\u003c')}</script>
</html>
`
}

function sums({ heldMs, ...counts }: { heldMs: number } & Counts): [number, string] {
  return [total(counts), heldMs > 0 ? forPeople(heldMs) : '-']
}

function countsIn({ heldMs, ...counts }: { heldMs: number } & Counts): Counts {
  return counts
}

function table(title: string, head: string[], rows: (string | number)[][]): string {
  if (rows.length === 0) return ''
  const cell = (value: string | number) => `<td${typeof value === 'number' ? ' class="number"' : ''}>${escaped(String(value))}`
  return `<h2>${title}</h2>
<div class="wide"><table>
<tr>${head.map((name) => `<th>${name}`).join('')}
${rows.map((row) => `<tr>${row.map(cell).join('')}`).join('\n')}
</table></div>`
}

// ---- the timeline ----

const WIDTH = 1_000
const ROW = 36
/** What is closer together than this is drawn as one mark, larger. */
const MARK = 10
const MAX_ROWS = 40
const LABEL = 240
/** Shape and colour both tell the kinds apart. */
const MARKS: { types: Logged['type'][]; label: string; name: string; draw: (x: number, y: number, size: number) => string }[] = [
  { types: ['skipped'], label: 'skipped', name: 'skip', draw: (x, y, size) => `<circle cx="${x}" cy="${y}" r="${size - 1}"` },
  { types: ['conflict', 'refused', 'queued', 'warned'], label: 'in the way', name: 'conflict', draw: (x, y, size) => `<path d="M${x} ${y - size}l${size} ${size * 2 - 1}h-${size * 2}z"` },
  { types: ['recovered', 'lost', 'broken', 'damaged', 'bypassed'], label: 'recovered, lost, broken', name: 'incident', draw: (x, y, size) => `<path d="M${x} ${y - size}l${size} ${size}l-${size} ${size}l-${size}-${size}z"` },
]
const SPANS: Logged['type'][] = ['held', 'waited']

function timeline(events: Logged[], { since, until, resources }: Report): string {
  const rows = resources.slice(0, MAX_ROWS).map(({ what }) => what)
  const [from, to] = [Date.parse(since), Math.max(Date.parse(until), Date.parse(since) + 1)]
  const at = (ms: number) => LABEL + round((Math.min(Math.max(ms, from), to) - from) * (WIDTH - LABEL) / (to - from))
  const height = rows.length * ROW + 30
  const rest = resources.length - rows.length
  const ticks = Array.from({ length: 5 }, (_, index) => from + ((to - from) * index) / 4)
  return `<h2>Timeline</h2>
<p class="legend"><svg width="18" height="12"><rect class="held" y="2" width="16" height="8"/></svg>held <svg width="18" height="12"><rect class="waited" y="2" width="16" height="8"/></svg>waited ${MARKS.map(({ name, label, draw }) => `<svg width="14" height="14">${draw(7, 7, 5)} class="${name}"/></svg>${label}`).join(' ')}</p>
<div class="wide"><svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="When each resource was held, and who was skipped or in the way">
${ticks.map((ms, index) => `<line class="grid" x1="${at(ms)}" x2="${at(ms)}" y1="0" y2="${height - 22}"/><text class="tick" x="${at(ms)}" y="${height - 6}" text-anchor="${['start', 'middle', 'middle', 'middle', 'end'][index]}">${short(iso(ms))}</text>`).join('\n')}
${rows.map((what, row) => lane(what, row, events.filter((event) => event.what === what), at)).join('\n')}
</svg></div>${rest > 0 ? `\n<p>${rest} more resources are in the table below.</p>` : ''}`
}

function lane(what: string, row: number, events: Logged[], at: (ms: number) => number): string {
  const y = row * ROW + ROW / 2
  const spans = bucketed(events.filter(({ type }) => SPANS.includes(type)), at).map(({ x, group }) => {
    const start = Math.min(...group.map((event) => at(Date.parse(event.at) - (event.ms ?? 0))))
    return `<rect class="${group[0]!.type}" x="${start}" y="${y - 11}" width="${Math.max(1.5, round(x - start))}" height="9">${title(group)}</rect>`
  })
  const marks = MARKS.flatMap(({ types, name, draw }) =>
    bucketed(events.filter(({ type }) => types.includes(type)), (ms) => Math.round(at(ms) / MARK) * MARK).map(({ x, group }) => {
      const shape = draw(x, y + 8, round(Math.min(6, 3.5 + Math.log10(group.length) * 2)))
      return `${shape} class="${name}">${title(group)}</${shape.slice(1, shape.indexOf(' '))}>`
    }),
  )
  const label = what.length > 36 ? `…${what.slice(-35)}` : what
  return `<g><line class="lane" x1="${LABEL}" x2="${WIDTH}" y1="${y}" y2="${y}"/><text x="0" y="${y + 4}">${escaped(label)}<title>${escaped(what)}</title></text>${[...spans, ...marks].join('')}</g>`
}

// What falls on one place is drawn once: the page stays small however much has happened.
function bucketed(events: Logged[], at: (ms: number) => number): { x: number; group: Logged[] }[] {
  const groups = new Map<number, Logged[]>()
  for (const event of events) {
    const x = at(Date.parse(event.at))
    groups.set(x, [...(groups.get(x) ?? []), event])
  }
  return [...groups].map(([x, group]) => ({ x, group }))
}

function title(group: Logged[]): string {
  const lines = group.slice(0, 5).map(({ at, type, by, against, why, ms }) => `${short(at)} ${type}${by ? ` ${by}` : ''}${against ? ` / ${against}` : ''}${why ? `: ${why}` : ''}${ms ? ` (${forPeople(ms)})` : ''}`)
  return `<title>${escaped([...lines, ...(group.length > 5 ? [`… ${group.length} in all`] : [])].join('\n'))}</title>`
}

const round = (value: number) => Math.round(value * 2) / 2
const iso = (ms: number) => new Date(ms).toISOString()
const short = (at: string) => at.slice(0, 16).replace('T', ' ')

function escaped(text: string): string {
  const lines = text.split('\n').map(plain).join('\n')
  return lines.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

const STYLE = `
:root{color-scheme:light dark;--ink:#1d2126;--soft:#6b7480;--line:#d9dde2;--ground:#fff;--held:#7aa6d8;--waited:#c9b458;--skip:#6b7480;--conflict:#c4570b;--incident:#b3123f}
@media(prefers-color-scheme:dark){:root{--ink:#e3e6ea;--soft:#98a1ad;--line:#343a42;--ground:#16191d;--held:#3f6ea3;--waited:#8d7c2e;--skip:#98a1ad;--conflict:#f08a3c;--incident:#ff5c86}}
body{margin:2rem auto;padding:0 1rem;max-width:70rem;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0;color:var(--soft)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500;white-space:nowrap}td{white-space:nowrap}td:last-child{white-space:normal;overflow-wrap:anywhere}.number{text-align:right;font-variant-numeric:tabular-nums}
svg{vertical-align:middle}.wide svg{width:100%;min-width:44rem}text{fill:var(--ink);font-size:12px}.tick{fill:var(--soft);font-size:11px}
.lane,.grid{stroke:var(--line)}.held{fill:var(--held)}.waited{fill:var(--waited)}.skip{fill:var(--skip)}.conflict{fill:var(--conflict)}.incident{fill:var(--incident)}
.legend svg{margin:0 .3rem 0 1rem}`

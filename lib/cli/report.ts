import { ago, forPeople, plain } from '../core/index.js'
import { updateFile } from '../files/index.js'
import { findWorkspace, listed, readEvents, type Report, summarize, total } from '../work/index.js'
import { columns, type Command, duration, text } from './command.js'

export const command: Command = {
  usage: 'report [--since TIME] [options]',
  about: 'What stomped what: who stood in whose way, skips by reason, the longest holds and waits, recoveries and losses, by resource and by owner.',
  operands: [0, 0],
  options: {
    since: { value: 'TIME', about: 'so far back, e.g. 24h (default), 7d; all: everything that is kept' },
    html: { value: 'FILE', about: 'write it as one page, with a timeline' },
    dir: { value: 'DIR', about: 'the workspace' },
  },
  examples: ['lockpact report --since 7d', 'lockpact report --html report.html'],

  async run(_operands, values, io) {
    const root = findWorkspace(text(values, 'dir'))
    const back = duration(values, 'since', 'all') ?? DEFAULT_MS
    const now = Date.now()
    const events = readEvents(root)
    const report = summarize(events, now - back, now)
    const html = text(values, 'html')
    if (html !== undefined) {
      const { page } = await import('./page.js')
      await updateFile(html, () => page(report, events, root))
      io.say(`wrote ${html}`)
    }
    io.print({ ...report, scope: root }, html === undefined ? table(report) : '')
    return 0
  },
}

const DEFAULT_MS = 86_400_000

function table(report: Report): string {
  const { events, since, until, pairs, skips, holds, waits, incidents, resources, owners } = report
  const parts = [
    section('WHAT STOMPED WHAT', ['COUNT', 'WHO', 'AGAINST', 'LAST', 'WHAT'], pairs.map(({ count, by, against, last, what }) => [`${count}`, by, against, ago(last, Date.parse(until)), what.slice(0, 3).join(' ') + (what.length > 3 ? ' …' : '')])),
    section('SKIPPED', ['COUNT', 'WHO', 'REASON', 'BECAUSE OF', 'LAST', 'WHAT'], skips.map(({ count, what, reason, by, against, last }) => [`${count}`, by, reason, against, ago(last, Date.parse(until)), what])),
    section('RECOVERED, LOST, BROKEN', ['WHEN', 'EVENT', 'WHO', 'FROM', 'WHY', 'WHAT'], incidents.slice(0, 10).map(({ at, type, by, against, why, what }) => [ago(at, Date.parse(until)), type, by, against, why, what])),
    section('LONGEST HOLDS', ['HELD', 'WHO', 'ENDED', 'WHAT'], holds.map(({ ms, by, at, what }) => [forPeople(ms), by, ago(at, Date.parse(until)), what])),
    section('LONGEST WAITS', ['WAITED', 'WHO', 'FOR', 'ENDED', 'WHAT'], waits.map(({ ms, by, against, at, what }) => [forPeople(ms), by, against, ago(at, Date.parse(until)), what])),
    section('BY RESOURCE', ['EVENTS', 'HELD', 'WHAT', ''], resources.slice(0, 20).map(({ what, heldMs, ...counts }) => [`${total(counts)}`, heldMs > 0 ? forPeople(heldMs) : '-', what, listed(counts)])),
    section('BY OWNER', ['EVENTS', 'HELD', 'OWNER', ''], owners.slice(0, 20).map(({ owner, heldMs, ...counts }) => [`${total(counts)}`, heldMs > 0 ? forPeople(heldMs) : '-', owner, listed(counts)])),
  ]
  const head = `${events} ${events === 1 ? 'event' : 'events'} from ${since} to ${until}`
  return [head, ...parts.filter(Boolean)].join('\n\n')
}

function section(title: string, head: string[], rows: string[][]): string {
  return rows.length === 0 ? '' : [title, ...columns([head, ...rows.map((row) => row.map(plain))])].join('\n')
}

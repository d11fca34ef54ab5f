/*
 * `lockpact report`: counted from made-up events, printed, and rendered by a real browser.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { initWorkspace } from 'lockpact/work'
import { describe, expect, test } from 'vitest'
import { page } from '../lib/cli/page.js'
import { type Logged, type Report, summarize } from '../lib/work/report.js'
import { commandPath, has, tempFolder } from './support.js'

const NOW = Date.parse('2026-11-20T12:00:00.000Z')
const MINUTE = 60_000
const event = (minutesAgo: number, more: Partial<Logged> & Pick<Logged, 'type' | 'what'>): Logged => ({ at: new Date(NOW - minutesAgo * MINUTE).toISOString(), pid: 1, ...more })

const EVENTS: Logged[] = [
  event(600, { type: 'refused', what: 'memory/old.md', by: 'inbox', against: 'hourly' }),
  event(100, { type: 'skipped', what: 'slot:heartbeat', by: 'hourly', against: 'presence', why: 'cooldown' }),
  event(90, { type: 'skipped', what: 'slot:heartbeat', by: 'hourly', against: 'presence', why: 'running' }),
  event(80, { type: 'skipped', what: 'slot:heartbeat', by: 'hourly', against: 'presence', why: 'cooldown' }),
  event(70, { type: 'conflict', what: 'memory/queue.md', by: 'weekly', against: 'hourly', why: 'declared' }),
  event(60, { type: 'refused', what: 'memory/queue.md', by: 'weekly', against: 'hourly' }),
  event(50, { type: 'warned', what: 'src', by: 'hourly', against: 'weekly', why: 'declared' }),
  event(40, { type: 'held', what: 'memory/queue.md', by: 'hourly', ms: 30_000 }),
  event(30, { type: 'held', what: 'memory/queue.md', by: 'presence', ms: 90_000 }),
  event(20, { type: 'waited', what: 'memory/queue.md', by: 'weekly', against: 'hourly', ms: 2_000 }),
  event(10, { type: 'recovered', what: 'memory/queue.md', by: 'weekly', against: 'hourly', why: 'dead' }),
  event(5, { type: 'lost', what: 'src', by: null }),
]

describe('counted', () => {
  const report = summarize(EVENTS, NOW - 120 * MINUTE, NOW)

  test('only what lies in the period', () => {
    expect(report).toMatchObject({ since: '2026-11-20T10:00:00.000Z', until: '2026-11-20T12:00:00.000Z', events: 11 })
    expect(report.totals).toEqual({ skipped: 3, conflict: 1, refused: 1, warned: 1, held: 2, waited: 1, recovered: 1, lost: 1 })
    expect(summarize(EVENTS, -Infinity, NOW)).toMatchObject({ since: '2026-11-20T02:00:00.000Z', events: 12 })
  })

  test('who was in whose way, the most frequent first', () => {
    expect(report.pairs).toEqual([
      { by: 'weekly', against: 'hourly', count: 2, what: ['memory/queue.md'], last: '2026-11-20T11:00:00.000Z' },
      { by: 'hourly', against: 'weekly', count: 1, what: ['src'], last: '2026-11-20T11:10:00.000Z' },
    ])
  })

  test('skips by reason', () => {
    expect(report.skips.map(({ reason, count }) => [reason, count])).toEqual([['cooldown', 2], ['running', 1]])
  })

  test('the longest holds and waits, recoveries and losses', () => {
    expect(report.holds.map(({ by, ms }) => [by, ms])).toEqual([['presence', 90_000], ['hourly', 30_000]])
    expect(report.waits).toEqual([{ at: '2026-11-20T11:40:00.000Z', what: 'memory/queue.md', by: 'weekly', against: 'hourly', ms: 2_000 }])
    expect(report.incidents.map(({ type, by, against, why }) => [type, by, against, why])).toEqual([['lost', '-', '-', ''], ['recovered', 'weekly', 'hourly', 'dead']])
  })

  test('what somebody has to look at is an incident: recovered, lost, broken, damaged, bypassed', () => {
    const types = ['recovered', 'lost', 'broken', 'damaged', 'bypassed'] as const
    const events = types.map((type, at) => event(9 - at, { type, what: 'slots', by: 'hourly' }))
    expect(summarize(events, -Infinity, NOW).incidents.map(({ type }) => type)).toEqual(types.toReversed())
    const all = page(summarize(events, -Infinity, NOW), events, 'here')
    expect(lanes(all)['slots']!.map(({ mark }) => mark)).toEqual(types.map((type) => `path incident ${type}`))
  })

  test('by resource and by owner', () => {
    expect(report.resources[0]).toEqual({ what: 'memory/queue.md', heldMs: 120_000, conflict: 1, refused: 1, held: 2, waited: 1, recovered: 1 })
    expect(report.owners.map(({ owner, heldMs }) => [owner, heldMs])).toEqual([['hourly', 30_000], ['weekly', 0], ['presence', 90_000]])
  })

  test('of nothing, nothing', () => {
    expect(summarize([], -Infinity, NOW)).toMatchObject({ events: 0, totals: {}, pairs: [], skips: [], holds: [], resources: [] })
  })
})

/** What the lane of each resource shows: shape, class and kind of event; when; how far right. */
function lanes(html: string): Record<string, { mark: string; at: string; x: number }[]> {
  const found = [...html.matchAll(/<g><line class="lane".*?<title>(.*?)<\/title>(.*?)<\/g>/g)]
  return Object.fromEntries(found.map(([, what, marks]) => [what, [...marks!.matchAll(/<(\w+) ([^>]*)><title>(.{16}) (\w+)/g)].map(([, shape, attributes, at, type]) => {
    const number = (name: string) => Number(new RegExp(`\\b${name}="M?([\\d.]+)`).exec(attributes!)?.[1] ?? 0)
    return { mark: `${shape} ${/class="(\w+)"/.exec(attributes!)?.[1]} ${type}`, at: at!, x: number('cx') + number('d') + number('x') + number('width') }
  })]))
}

describe('the timeline', () => {
  const shown = lanes(page(summarize(EVENTS, NOW - 120 * MINUTE, NOW), EVENTS, 'here'))

  test('has a mark for each event, in the lane of its resource', () => {
    expect(Object.fromEntries(Object.entries(shown).map(([what, marks]) => [what, marks.map(({ mark }) => mark)]))).toEqual({
      'memory/queue.md': ['rect held held', 'rect held held', 'rect waited waited', 'path conflict conflict', 'path conflict refused', 'path incident recovered'],
      'slot:heartbeat': ['circle skip skipped', 'circle skip skipped', 'circle skip skipped'],
      src: ['path conflict warned', 'path incident lost'],
    })
  })

  test('a later event is further right', () => {
    const marks = Object.values(shown).flat().sort((a, b) => (a.at < b.at ? -1 : 1))
    for (const [at, { x }] of marks.slice(1).entries()) expect(x).toBeGreaterThan(marks[at]!.x)
  })
})

/** A folder with so many events, of the last day. */
function busy(count: number): string {
  const dir = tempFolder()
  initWorkspace(dir)
  const pick = <T>(list: T[], at: number) => list[at % list.length]!
  const owners = ['hourly', 'presence', 'ci-watch', '<b>"inbox"</b>']
  const lines = Array.from({ length: count }, (_, at) => {
    const kind = pick([{ type: 'skipped', why: pick(['done', 'cooldown', 'running'], at >> 2) }, { type: 'held', ms: 1_000 * (at % 300) }, { type: 'conflict', why: 'declared' }, { type: 'waited', ms: at }, { type: 'recovered', why: 'dead' }], at)
    const what = kind.type === 'skipped' ? 'slot:heartbeat' : pick(['memory/queue.md', 'memory/log.md', 'src', 'docs/</script>&.md'], at >> 1)
    return JSON.stringify({ at: new Date(Date.now() - ((count - at) * 80_000_000) / count).toISOString(), what, by: pick(owners, at), against: pick(owners, at + 1), pid: 1, ...kind })
  })
  writeFileSync(join(dir, '.lockpact/events.jsonl'), `${lines.join('\n')}\n`)
  return dir
}

const report = (dir: string, ...args: string[]) => spawnSync(process.execPath, [commandPath, 'report', ...args], { cwd: dir, encoding: 'utf8', maxBuffer: 1 << 26 })

describe('the command', () => {
  test('prints aligned tables, and the same numbers as JSON', () => {
    const dir = busy(100)
    const { status, stdout, stderr } = report(dir)
    expect([status, stderr]).toEqual([0, ''])
    for (const title of ['WHAT STOMPED WHAT', 'SKIPPED', 'RECOVERED, LOST, BROKEN', 'LONGEST HOLDS', 'LONGEST WAITS', 'BY RESOURCE', 'BY OWNER']) expect(stdout).toContain(`\n${title}\n`)
    const json = JSON.parse(report(dir, '--json').stdout) as Report & { scope: string }
    expect(json).toMatchObject({ events: 100, scope: dir, totals: { skipped: 20, held: 20, conflict: 20, waited: 20, recovered: 20 } })
    expect(stdout).toMatch(new RegExp(`^${json.pairs[0]!.count} +`, 'm'))
    expect(JSON.parse(report(dir, '--json', '--since', '1ms').stdout)).toMatchObject({ events: 0 })
    // Before all time.
    expect(JSON.parse(report(dir, '--json', '--since', '200000000d').stdout)).toMatchObject({ events: 100 })
  })

  test('torn lines and foreign ones are left out; an empty workspace has nothing to tell', () => {
    const dir = busy(10)
    appendFileSync(join(dir, '.lockpact/events.jsonl'), '{"at":"2026-11-20T12:00:00.000Z","type":"he\n[]\nnull\n"text"\n{"at":7,"type":"held","what":"x"}\n')
    expect(JSON.parse(report(dir, '--json', '--since', 'all').stdout)).toMatchObject({ events: 10 })
    const quiet = tempFolder()
    initWorkspace(quiet)
    expect(report(quiet).stdout).toMatch(/^0 events from /)
    expect(report(quiet, '--html', 'r.html').status).toBe(0)
    expect(readFileSync(join(quiet, 'r.html'), 'utf8')).toContain('Nothing happened.')
  })

  test('bad input', () => {
    expect(report(tempFolder()).status).toBe(64)
    const dir = busy(1)
    expect(report(dir, '--since', '7').stderr).toContain('--since needs a unit')
    mkdirSync(join(dir, 'folder'))
    expect(report(dir, '--html', 'folder').status).toBe(65)
  })
})

describe.each([100, 10_000])('the page, of %i events', (count) => {
  test('has no network, no script, and the numbers of --json; a browser renders it', ({ skip }) => {
    const dir = busy(count)
    const file = join(dir, 'report.html')
    expect(report(dir, '--html', file, '-q').status).toBe(0)
    const html = readFileSync(file, 'utf8')
    expect(html).not.toMatch(/https?:|src=|href=|@import|url\(/)
    expect(html).toContain('prefers-color-scheme')
    const inside = JSON.parse(/<script type="application\/json" id="report">([^<]*)<\/script>/.exec(html)![1]!) as Report
    const { since: _, until: __, ...json } = JSON.parse(report(dir, '--json').stdout) as Report
    expect(inside).toMatchObject(json)
    expect(html).toContain('&lt;b&gt;&quot;inbox&quot;&lt;/b&gt;')
    expect(html).not.toContain('</script>&.md')
    expect(statSync(file).size).toBeLessThan(2_000_000)

    skip(!has('chromium'), 'needs chromium (Debian package)')
    const browser = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', `--user-data-dir=${join(dir, 'browser')}`]
    const dump = spawnSync('chromium', [...browser, '--enable-logging=stderr', '--log-level=0', '--dump-dom', `file://${file}`], { encoding: 'utf8', timeout: 50_000, maxBuffer: 1 << 26 })
    expect(dump.stderr).not.toMatch(/CONSOLE/)
    // Rendered: each row of a table, and each resource's lane.
    const rows = (dump.stdout.match(/<tr>/g) ?? []).length
    expect(rows).toBe(7 + json.pairs.length + json.skips.length + json.incidents.length + json.holds.length + json.waits.length + json.resources.length + json.owners.length)
    expect((dump.stdout.match(/class="lane"/g) ?? []).length).toBe(json.resources.length)
    spawnSync('chromium', [...browser, '--window-size=1200,900', `--screenshot=${join(dir, 'page.png')}`, `file://${file}`], { timeout: 50_000 })
    expect(existsSync(join(dir, 'page.png')) && statSync(join(dir, 'page.png')).size).toBeGreaterThan(20_000)
  })
})

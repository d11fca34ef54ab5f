import type { WorkEvent } from './workspace.js'

/*
 * What the events of a workspace say, as pure counting.
 */

export type Logged = WorkEvent & { at: string; pid: number }

/** How often each kind of event; a kind that did not happen is left out. */
export type Counts = Partial<Record<WorkEvent['type'], number>>

export interface Report {
  /** ISO, UTC: from the first moment that is told of to the last. */
  since: string
  until: string
  events: number
  totals: Counts
  /** Who stood in whose way: was refused, queued, or let in with a warning. The most frequent first. */
  pairs: { by: string; against: string; count: number; what: string[]; last: string }[]
  /** Gates that did not let somebody through, by slot and reason. */
  skips: { what: string; reason: string; by: string; against: string; count: number; last: string }[]
  /** The longest holds and waits, in milliseconds. */
  holds: Span[]
  waits: Span[]
  /** Recoveries, losses, locks that were broken, documents that were damaged; the newest first. */
  incidents: { at: string; type: WorkEvent['type']; what: string; by: string; against: string; why: string }[]
  resources: ({ what: string; heldMs: number } & Counts)[]
  owners: ({ owner: string; heldMs: number } & Counts)[]
}

export interface Span {
  at: string
  what: string
  by: string
  against: string
  ms: number
}

const STOMPS = new Set<WorkEvent['type']>(['conflict', 'queued', 'warned', 'refused'])
const INCIDENTS = new Set<WorkEvent['type']>(['recovered', 'lost', 'broken', 'damaged', 'bypassed'])
const LONGEST = 10
const NEWEST = 50

/** How many in all. */
export const total = (counts: Counts) => Object.values(counts).reduce((sum, count) => sum + count, 0)

/** In words, the most frequent first. */
export function listed(counts: Counts): string {
  return Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([type, count]) => `${count} ${type}`)
    .join(', ')
}

/** The report on what happened in `[since, until]`, milliseconds. */
export function summarize(all: Logged[], since: number, until: number): Report {
  const events = all.filter(({ at }) => Date.parse(at) >= since && Date.parse(at) <= until)
  const first = events.reduce((least, { at, ms = 0 }) => Math.min(least, Date.parse(at) - ms), until)
  return {
    since: iso(since > -8e15 ? since : first),
    until: iso(until),
    events: events.length,
    totals: countsOf(events),
    pairs: grouped(
      events.filter(({ type, against }) => STOMPS.has(type) && against),
      ({ by, against }) => [nameOf(by), nameOf(against)],
    ).map(([[by, against], group]) => ({ by: by!, against: against!, count: group.length, what: [...new Set(group.map(({ what }) => what))], last: group.at(-1)!.at })),
    skips: grouped(
      events.filter(({ type }) => type === 'skipped'),
      ({ what, why, by, against }) => [what, why ?? 'unknown', nameOf(by), nameOf(against)],
    ).map(([[what, reason, by, against], group]) => ({ what: what!, reason: reason!, by: by!, against: against!, count: group.length, last: group.at(-1)!.at })),
    holds: longest(events, 'held'),
    waits: longest(events, 'waited'),
    incidents: events
      .filter(({ type }) => INCIDENTS.has(type))
      .slice(-NEWEST)
      .reverse()
      .map(({ at, type, what, by, against, why }) => ({ at, type, what, by: nameOf(by), against: nameOf(against), why: why ?? '' })),
    resources: grouped(events, ({ what }) => [what]).map(([[what], group]) => ({ what: what!, ...totalsOf(group) })),
    owners: grouped(
      events.filter(({ by }) => by),
      ({ by }) => [nameOf(by)],
    ).map(([[owner], group]) => ({ owner: owner!, ...totalsOf(group) })),
  }
}

const nameOf = (owner: string | null | undefined) => owner ?? '-'
const iso = (ms: number) => new Date(ms).toISOString()

// The largest groups first.
function grouped(events: Logged[], keyOf: (event: Logged) => string[]): [string[], Logged[]][] {
  const groups = new Map<string, [string[], Logged[]]>()
  for (const event of events) {
    const key = keyOf(event)
    const name = JSON.stringify(key)
    const group = groups.get(name)
    if (group) group[1].push(event)
    else groups.set(name, [key, [event]])
  }
  return [...groups.values()].sort(([, a], [, b]) => b.length - a.length)
}

function countsOf(events: Logged[]): Counts {
  const counts: Counts = {}
  for (const { type } of events) counts[type] = (counts[type] ?? 0) + 1
  return counts
}

function totalsOf(events: Logged[]): { heldMs: number } & Counts {
  const heldMs = events.reduce((sum, { type, ms = 0 }) => sum + (type === 'held' ? ms : 0), 0)
  return { heldMs, ...countsOf(events) }
}

function longest(events: Logged[], type: WorkEvent['type']): Span[] {
  return events
    .filter((event) => event.type === type)
    .sort((a, b) => (b.ms ?? 0) - (a.ms ?? 0))
    .slice(0, LONGEST)
    .map(({ at, what, by, against, ms = 0 }) => ({ at, what, by: nameOf(by), against: nameOf(against), ms }))
}

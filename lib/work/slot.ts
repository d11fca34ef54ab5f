import type { Lease } from './lease.js'

/*
 * Slots, as pure decisions. A key has one record, which all jobs share; the rule belongs to whoever asks.
 *
 *              ask: go                    done, failed, free
 *     open  ------------->  running  -------------------------->  open, with one outcome more
 *       ^                      |
 *       +----------------------+  its process is dead, or its TTL has run out: the next one is told (outcome: lost)
 *
 * Refused while somebody is running, whatever the rule; then by the rule: `done` in this period or for this slot, or `cooldown` since
 * the last that was done. A period is that in which the run began: what was begun at 9:58 and done at 10:02 is the nine o'clock one.
 */

export interface Outcome {
  outcome: 'done' | 'failed' | 'free' | 'lost'
  slot: string | null
  id: string
  by: string | null
  /** When it began and ended; ISO, UTC. */
  since: string
  at: string
  note: string | null
}

export interface Running extends Lease {
  slot: string | null
}

/** The record of a key. */
export interface Slot {
  key: string
  running: Running | null
  /** Runs in a row that failed or were lost. */
  failures: number
  /** The newest first. */
  outcomes: Outcome[]
}

/** Milliseconds. */
export interface Rule {
  every?: number | undefined
  offset?: number | undefined
  cooldown?: number | undefined
  slot?: string | undefined
}

export interface Refused {
  go: false
  slot: string | null
  reason: 'running' | 'done' | 'cooldown'
  /** Who is at it, or has done it. */
  by: string | null
  /** Since when, or when it was done; ISO, UTC. */
  at: string
  /** When to ask again; null: not for this slot. */
  until: string | null
  note: string | null
}

/** A run that ended without saying how. */
export interface Recovered {
  by: string | null
  since: string
  slot: string | null
  why: 'dead' | 'expired'
}

export interface Granted {
  go: true
  slot: string | null
  recovered: Recovered | null
  failures: number
  /** With nobody running. */
  record: Slot
}

/** A clock that was set back must not close a slot for long. */
const CLOCK_SLACK_MS = 60_000
/** What is kept of a key: the last outcomes, and what closes a slot, the last that was done for it. */
const KEEP = { outcomes: 20, slots: 100 }

export const newSlot = (key: string): Slot => ({ key, running: null, failures: 0, outcomes: [] })

/** Whether somebody who asks by this rule may go. `overBy`: why a lease is over. */
export function ask(record: Slot, rule: Rule, now: number, overBy: (lease: Lease) => Recovered['why'] | undefined): Granted | Refused {
  const slot = slotOf(rule, now)
  const { running } = record
  const why = running ? overBy(running) : undefined
  if (running && !why) return { go: false, slot, reason: 'running', by: running.by, at: running.since, until: running.until, note: null }
  const open = running ? ended(record, running, 'lost', why!, now) : record
  const refused = byRule(open, rule, slot, now)
  if (refused) return refused
  const recovered = running && { by: running.by, since: running.since, slot: running.slot, why: why! }
  return { go: true, slot, recovered, failures: open.failures, record: open }
}

/** The record with somebody running. */
export function begin(record: Slot, running: Running): Slot {
  return { ...record, running }
}

/** The record after the run with this id; undefined when the slot is not its any more. */
export function finish(record: Slot, id: string, outcome: 'done' | 'failed' | 'free', note: string | null, now: number): Slot | undefined {
  return record.running?.id === id ? ended(record, record.running, outcome, note, now) : undefined
}

/** The period, or the name, for which a run by this rule counts. */
export function slotOf({ every, offset = 0, slot }: Rule, now: number): string | null {
  return every === undefined ? (slot ?? null) : new Date(periodOf(now, every, offset)).toISOString()
}

const periodOf = (at: number, every: number, offset: number) => Math.floor((at - offset) / every) * every + offset

function byRule({ outcomes }: Slot, { every, offset = 0, cooldown }: Rule, slot: string | null, now: number): Refused | undefined {
  const done = outcomes.filter(({ outcome }) => outcome === 'done')
  const refused = (reason: 'done' | 'cooldown', { by, at, note }: Outcome, until: number): Refused => ({ go: false, slot, reason, by, at, note, until: timeOf(until) })
  const same = slot === null ? undefined : done.find((each) => (every === undefined ? each.slot === slot : timeOf(periodOf(Date.parse(each.since), every, offset)) === slot))
  if (same) return refused('done', same, every === undefined ? Infinity : Date.parse(slot!) + every)
  const last = done.find(({ at }) => Date.parse(at) <= now + CLOCK_SLACK_MS)
  if (last && cooldown !== undefined && now - Date.parse(last.at) < cooldown) return refused('cooldown', last, Date.parse(last.at) + cooldown)
  return undefined
}

const timeOf = (ms: number) => (ms <= 8.64e15 ? new Date(ms).toISOString() : null)

function ended(record: Slot, { slot, id, by, since }: Running, outcome: Outcome['outcome'], note: string | null, now: number): Slot {
  const failures = outcome === 'failed' || outcome === 'lost' ? record.failures + 1 : 0
  const outcomes = [{ outcome, slot, id, by, since, at: new Date(now).toISOString(), note }, ...record.outcomes]
  return { ...record, running: null, failures, outcomes: kept(outcomes) }
}

function kept(outcomes: Outcome[]): Outcome[] {
  const closed = new Set<string | null>()
  return outcomes.filter(({ outcome, slot }, index) => {
    const closes = outcome === 'done' && !closed.has(slot) && closed.size < KEEP.slots
    if (closes) closed.add(slot)
    return closes || index < KEEP.outcomes
  })
}

/*
 * All fires through the pure decisions of lib/work/slot.ts, on a virtual clock.
 */
import { ask, begin, finish, newSlot, type Running } from '../../lib/work/slot.js'
import { type Fire, type Rules, runMinutes } from './fires.js'
import type { Answer } from './tally.js'

const MINUTE_MS = 60_000
const TTL_MS = 60 * MINUTE_MS

export function replay(fires: Fire[], rules: Rules): Answer[] {
  let slot = newSlot('contribution')
  return fires.map((fire) => {
    const now = fire.minute * MINUTE_MS
    const ended = slot.running && Date.parse(slot.running.since) + runMinutes * MINUTE_MS
    if (ended !== null && ended <= now) slot = finish(slot, slot.running!.id, 'done', null, ended)!
    const cooldown = rules[fire.job]
    const answer = ask(slot, { cooldown: cooldown && cooldown * MINUTE_MS }, now, ({ until }) => (Date.parse(until) <= now ? 'expired' : undefined))
    if (!answer.go) return { fire, skipped: { reason: answer.reason, by: answer.by } }
    slot = begin(answer.record, runOf(fire, now))
    return { fire }
  })
}

function runOf({ minute, job }: Fire, now: number): Running {
  const timeOf = (ms: number) => new Date(ms).toISOString()
  return { id: String(minute), by: job, since: timeOf(now), until: timeOf(now + TTL_MS), ttlMs: TTL_MS, slot: null }
}

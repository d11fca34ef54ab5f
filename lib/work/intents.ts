import type { ProcessStamp } from '../core/index.js'
import type { Lease } from './lease.js'

/*
 * Write intents, as pure decisions. The registry is a list in the order of submission.
 *
 * A path is relative to the workspace, with slashes, without links and dots: `.`, `memory`, `memory/queue.md`, `memory/queue.md::head`;
 * or a free name, `name:deploy`. A folder covers what is below it, a file its parts; two paths overlap when one covers the other.
 */

export type Policy = 'refuse' | 'queue' | 'warn'

/** An overlap of one task's writes with another's; `task` is null where it is somebody's lock. */
export interface Conflict {
  path: string
  task: string | null
  owner: string | null
  since: string | null
  expiresAt: string | null
}

export interface Intent extends Lease {
  task: string
  writes: string[]
  /** In the queue, not admitted yet: the lease is that of its place, bound to the process that waits. */
  queued?: true
  /** The process that will do the work, when it is queued. */
  worker?: ProcessStamp[]
  /** With whom it was admitted all the same. */
  overlaps?: Conflict[]
}

/** Whether writing to one path may touch the other. */
export function overlap(one: string, other: string): boolean {
  return covers(one, other) || covers(other, one)
}

function covers(one: string, other: string): boolean {
  if (one === other) return true
  // `name:a/b` is a name as well, and not below `name:a`.
  if (one.startsWith('name:')) return false
  if (one === '.') return !other.startsWith('name:')
  return other.startsWith(one) && (other[one.length] === '/' || other.startsWith('::', one.length))
}

/**
 * What is in the way of `writes`: intents of other tasks that are admitted, and those that came before (`before`, an index) and wait.
 * `isSame`: whether an intent is this task's own; `isOver`: whether its lease is over.
 */
export function conflictsOf(intents: Intent[], writes: string[], isSame: (intent: Intent) => boolean, isOver: (intent: Intent) => boolean, before = intents.length): Conflict[] {
  const conflicts: Conflict[] = []
  for (const [index, intent] of intents.entries()) {
    if (intent.queued && index >= before) continue
    const path = intent.writes.find((theirs) => writes.some((ours) => overlap(ours, theirs)))
    if (path !== undefined && !isSame(intent) && !isOver(intent)) conflicts.push(conflictWith(intent, path))
  }
  return conflicts
}

/** Whether a task that waits for these would wait for itself: one of them waits, through whomever, for what it has already. */
export function isCircle(intents: Intent[], task: string, conflicts: Conflict[], isOver: (intent: Intent) => boolean): boolean {
  const seen = new Set<string | null>([null])
  const waitsForUs = (other: string | null): boolean => {
    if (seen.has(other)) return false
    seen.add(other)
    const inItsWay = intents.flatMap(({ task, writes, queued }, index) => (task === other && queued ? conflictsOf(intents, writes, (each) => each.task === other, isOver, index) : []))
    return inItsWay.some((conflict) => conflict.task === task || waitsForUs(conflict.task))
  }
  return conflicts.some((conflict) => conflict.task !== task && waitsForUs(conflict.task))
}

export function conflictWith({ task, by, since, until }: Intent, path: string): Conflict {
  return { path, task, owner: by, since, expiresAt: until }
}

/** The registry with this intent instead of the one with its id; undefined when there is none. */
export function replaced(intents: Intent[], id: string, change: (intent: Intent) => Intent | undefined): Intent[] | undefined {
  const index = intents.findIndex((intent) => intent.id === id)
  if (index < 0) return undefined
  const changed = change(intents[index]!)
  return changed ? intents.with(index, changed) : intents.toSpliced(index, 1)
}

/** The registry where all that overlap with an intent know of it. */
export function noted(intents: Intent[], newest: Intent): Intent[] {
  const known = new Set(newest.overlaps?.map(({ task }) => task))
  return intents.map((intent) => {
    const path = newest.writes.find((ours) => intent.writes.some((theirs) => overlap(ours, theirs)))
    if (path === undefined || intent.id === newest.id || !known.has(intent.task)) return intent
    return { ...intent, overlaps: [...(intent.overlaps ?? []).slice(1 - MAX_OVERLAPS), conflictWith(newest, path)] }
  })
}

const MAX_OVERLAPS = 20

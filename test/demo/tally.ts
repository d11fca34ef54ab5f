/*
 * What became of the fires.
 */
import type { Fire } from './fires.js'

export type Reason = 'running' | 'done' | 'cooldown'

export interface Answer {
  fire: Fire
  /** Absent: it went, and shipped. */
  skipped?: { reason: Reason; by: string | null }
  /** How long a real gate took to answer. */
  askMs?: number
}

export interface Tally {
  fires: number
  /** Work that nobody had done yet. */
  shipped: number
  /** Work that the other job had shipped minutes before. */
  doneTwice: number
  /** Work that nobody had done yet, and now nobody did. */
  lost: number
  skipped: Record<Reason, { times: number; by: string[] }>
}

export function tally(answers: Answer[]): Tally {
  const times = (isCounted: (answer: Answer) => boolean) => answers.filter(isCounted).length
  const because = (reason: Reason) => {
    const those = answers.filter(({ skipped }) => skipped?.reason === reason)
    return { times: those.length, by: [...new Set(those.map(({ skipped }) => skipped!.by ?? 'somebody'))] }
  }
  return {
    fires: answers.length,
    shipped: times(({ fire, skipped }) => !skipped && !fire.isExtra),
    doneTwice: times(({ fire, skipped }) => !skipped && fire.isExtra),
    lost: times(({ fire, skipped }) => skipped !== undefined && !fire.isExtra),
    skipped: { running: because('running'), done: because('done'), cooldown: because('cooldown') },
  }
}

/*
 * When the two jobs fire, in minutes from the start, and by which rule each asks; `isExtra`: where nothing coordinated them, it
 * arrived when the other job had just shipped, and did the work again. The rate and the gaps are those of a field report, the
 * single times are made up.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Fire {
  minute: number
  job: string
  isExtra: boolean
}

/** The cooldown that a job asks with, in minutes; a job without a rule is refused only while somebody is running. */
export type Rules = Record<string, number>

/** What a plain lock amounts to. */
export const noRules: Rules = {}
/** `gate(key, { cooldown: '15m' })`. */
export const gateRules: Rules = { hourly: 15 }
/** 45 seconds, in minutes: the middle of what the fires took in the field. */
export const runMinutes = 0.75

export function readFires(): Fire[] {
  const [, ...lines] = readFileSync(join(import.meta.dirname, 'fires.csv'), 'utf8').trim().split('\n')
  return lines.map((line) => {
    const [minute, job, outcome] = line.split(',')
    return { minute: Number(minute), job: job!, isExtra: outcome !== 'shipped' }
  })
}

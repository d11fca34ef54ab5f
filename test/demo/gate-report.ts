/*
 * What the operator reads of the second part.
 */
import { type Fire, runMinutes } from './fires.js'
import type { Hours } from './hours.js'
import { align, type Cell, damage, type Row } from './table.js'
import type { Reason, Tally } from './tally.js'

/** The three runs: all fires with a plain lock and with the gate, the first hours with real processes. */
export interface Compared {
  plain: Tally
  gated: Tally
  hours: Hours
}

/** What a fire that comes too late costs in the field, in seconds of model time. */
const FIELD_SECONDS = [30, 60] as const

export function gateIntroduction(fires: Fire[]): string {
  return `
Two jobs do one kind of work: presence fires between the hours, hourly on the
hour. fires.csv has ${fires.length} fires in 27 hours, at the rate and with the gaps of a
field report; a run takes ${runMinutes * 60} seconds. ${fires.filter(({ isExtra }) => isExtra).length} times, hourly comes minutes after
presence has shipped. All fires go through the pure decisions on a virtual
clock; those of the first three hours also through the real gate, as two real
processes, in compressed time. Rules: hourly asks with cooldown '15m', presence
without a rule.
`
}

export function isWrong({ doneTwice, lost }: Tally): boolean {
  return doneTwice + lost > 0
}

export function hasFailed({ gated, hours }: Compared): boolean {
  return isWrong(gated) || isWrong(hours) || hours.writesLost > 0
}

export function gateReport(compared: Compared, folder: string, colour: boolean): string {
  return `
${table(compared, colour)}

${sentence(compared)}

Look at ${folder}
  with-gate/memory                the queue and the log after the three hours
  with-gate/.lockpact             slots.json, and every skip in events.jsonl`
}

function table({ plain, gated, hours }: Compared, colour: boolean): string {
  const row = (label: string, cell: (tally: Tally) => Cell): Row => [label, cell(plain), cell(gated), cell(hours)]
  const because = (reason: Reason) => row(`skipped: ${reason}`, ({ skipped }) => skips(skipped[reason]))
  const rows: Row[] = [
    ['', { text: 'a plain lock' }, { text: 'the gate' }, { text: 'the gate' }],
    ['', { text: 'virtual' }, { text: 'virtual' }, { text: 'real, 3 hours' }],
    row('fires', ({ fires }) => ({ text: `${fires}` })),
    row('shipped', ({ shipped }) => ({ text: `${shipped}` })),
    row('done twice', ({ doneTwice }) => damage(doneTwice)),
    because('running'),
    because('done'),
    because('cooldown'),
    row('work not done', ({ lost }) => damage(lost)),
    ['ticks and log lines lost', { text: '-' }, { text: '-' }, damage(hours.writesLost)],
    ['what a skip cost', { text: '-' }, { text: '-' }, { text: cost(hours) }],
  ]
  return align(rows, colour)
}

const skips = ({ times, by }: Tally['skipped'][Reason]): Cell => ({ text: times > 0 ? `${times}, by ${by.join(' and ')}` : '0' })

const cost = ({ skipMs }: Hours) => (skipMs.length > 0 ? `${medianOf(skipMs).toFixed(1)} ms` : '-')

function medianOf(numbers: number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}

function sentence(compared: Compared): string {
  const { plain, gated, hours } = compared
  if (hasFailed(compared)) return 'With the gate: work done twice, or not at all, or lost, which must not be.'
  const [least, most] = FIELD_SECONDS.map((seconds) => Math.round((plain.doneTwice * seconds) / 60))
  const total = Object.values(gated.skipped).reduce((sum, { times }) => sum + times, 0)
  return `A lock refused ${plain.skipped.running.times} of the ${plain.doneTwice}: when they come, nobody is running any more.
The gate skipped ${total}, and no work was left undone. A skip took ${cost(hours)} (median of
${hours.skipMs.length}, within a running process) in place of ${FIELD_SECONDS[0]} to ${FIELD_SECONDS[1]} seconds of model time: ${least} to
${most} minutes in these 27 hours.`
}

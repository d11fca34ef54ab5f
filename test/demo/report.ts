/*
 * What the operator reads.
 */
import { isDamaged, type Result } from './damage.js'
import { jobs } from './schedule.js'
import { align, type Cell, damage, type Row } from './table.js'

const victim = jobs.find(({ killedAtItem }) => killedAtItem !== undefined)!.name

export function introduction(): string {
  return `Four jobs (${jobs.map(({ name }) => name).join(', ')}) start together. Each takes the
first open item of contribution-queue.md, does it, ticks it and logs it in
heartbeat-log.md, until no item is open. One of them, ${victim}, is killed
(SIGKILL) when it has just claimed an item. The same schedule runs twice.
`
}

export function report(without: Result, locked: Result, folder: string, colour: boolean): string {
  return `
${table(without, locked, colour)}

${sentence(without, locked)}

Look at ${folder}
  with-locks/memory, without-locks/memory      the files after each run
  with-locks/journals, without-locks/journals  what each job really did`
}

// ---- the table ----

function table(without: Result, locked: Result, colour: boolean): string {
  const row = (label: string, cell: (result: Result) => Cell): Row => [label, cell(without), cell(locked)]
  const rows: Row[] = [
    ['', { text: 'without locks' }, { text: 'with locks' }],
    row('open items at the start', ({ items }) => ({ text: `${items}` })),
    row('times an item was done', ({ workDone }) => ({ text: `${workDone}` })),
    row('items done more than once', ({ doneTwice }) => damage(doneTwice)),
    row('items never done', ({ neverDone }) => damage(neverDone)),
    row('ticks lost', ({ ticksLost }) => damage(ticksLost)),
    row('log lines lost', ({ logLinesLost }) => damage(logLinesLost)),
    row('older lines lost', ({ oldLinesLost }) => damage(oldLinesLost)),
    row('lock files left over', ({ locksLeft }) => damage(locksLeft)),
    row(`item that ${victim} had claimed`, ({ killed }) => ({ text: killed.outcome, bad: !killed.outcome.startsWith('done') })),
    row('wait for its lock after the kill', ({ waitedAfterKillMs: ms }) => ({ text: ms === null ? '-' : `${ms} ms` })),
    row('time', ({ wallMs }) => ({ text: `${(wallMs / 1000).toFixed(1)} s` })),
  ]
  return align(rows, colour)
}

// ---- what it means ----

function sentence(without: Result, locked: Result): string {
  return `Without locks: ${isDamaged(without) ? toll(without) : 'no damage, by luck'}.\nWith locks: ${gain(locked)}.`
}

function toll({ items, doneTwice, neverDone, logLinesLost }: Result): string {
  return `of ${items} items ${doneTwice} done more than once, ${neverDone} never; ${logLinesLost} log lines lost`
}

function gain(locked: Result): string {
  if (isDamaged(locked)) return 'damage, which must not be; see the table'
  return `all ${locked.items} items done once, the killed job's too; nothing lost`
}

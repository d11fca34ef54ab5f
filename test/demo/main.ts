/*
 * The demo, in two parts. Locks: the same four jobs with the same schedule, first without locks and then with them, and what each run
 * did to the files. The gate: 90 fires of two jobs, with a plain lock and with a gate. `--json` prints the numbers as one line. Exit
 * code 1: the run with locks did damage, with the gate work was done twice or not at all, a job failed, or something hangs.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDamaged, measure, type Result } from './damage.js'
import { gateRules, noRules, readFires } from './fires.js'
import { type Compared, gateIntroduction, gateReport, hasFailed } from './gate-report.js'
import { runHours } from './hours.js'
import { replay } from './replay.js'
import { introduction, report } from './report.js'
import { runJobs } from './run.js'
import { tally } from './tally.js'

const timeoutMs = 55_000
/** The first hours of the fires that run as real processes, and how fast. */
const realMinutes = 180
const msPerMinute = 40

const json = process.argv.includes('--json')
const colour = Boolean(process.stdout.isTTY && !process.env.NO_COLOR)
const say = (text: string) => json || console.log(text)

async function main(folder: string): Promise<void> {
  const signal = AbortSignal.timeout(timeoutMs)
  const locks = await showLocks(folder, signal)
  const gates = await showGate(folder, signal)
  if (json) console.log(JSON.stringify({ folder, ...locks, ...gates }))
  if (isDamaged(locks.with) || hasFailed(gates)) process.exitCode = 1
}

async function showLocks(folder: string, signal: AbortSignal): Promise<{ without: Result; with: Result }> {
  say(introduction())
  say('Running without locks ...')
  const without = measure(await runJobs(join(folder, 'without-locks'), false, signal))
  say('Running with locks ...')
  const locked = measure(await runJobs(join(folder, 'with-locks'), true, signal))
  say(report(without, locked, folder, colour))
  return { without, with: locked }
}

async function showGate(folder: string, signal: AbortSignal): Promise<Compared> {
  const fires = readFires()
  say(gateIntroduction(fires))
  say('Running three hours of it ...')
  const early = fires.filter(({ minute }) => minute <= realMinutes)
  const gates = {
    plain: tally(replay(fires, noRules)),
    gated: tally(replay(fires, gateRules)),
    hours: await runHours(join(folder, 'with-gate'), early, gateRules, msPerMinute, signal),
  }
  say(gateReport(gates, folder, colour))
  return gates
}

const folder = mkdtempSync(join(tmpdir(), 'lockpact-demo-'))
try {
  await main(folder)
} catch (error) {
  const { name, message } = error as Error
  const what = name === 'TimeoutError' ? `not done after ${timeoutMs / 1000} s, a job hangs` : message
  console.error(`demo: ${what}; look at ${folder}`)
  process.exitCode = 1
}

/*
 * The demo: the same four jobs with the same schedule, first without locks and then with them, and what each run did to the
 * files. `--json` prints the numbers as one line. Exit code 1: the run with locks did damage, a job failed, or something hangs.
 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDamaged, measure } from './damage.js'
import { introduction, report } from './report.js'
import { runJobs } from './run.js'

const timeoutMs = 45_000

async function main(folder: string): Promise<void> {
  const json = process.argv.includes('--json')
  const say = (text: string) => json || console.log(text)
  const signal = AbortSignal.timeout(timeoutMs)
  say(introduction())
  say('Running without locks ...')
  const without = measure(await runJobs(join(folder, 'without-locks'), false, signal))
  say('Running with locks ...')
  const locked = measure(await runJobs(join(folder, 'with-locks'), true, signal))
  say(report(without, locked, folder, process.stdout.isTTY && !process.env.NO_COLOR))
  if (json) console.log(JSON.stringify({ folder, without, with: locked }))
  if (isDamaged(locked)) process.exitCode = 1
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

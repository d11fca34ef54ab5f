/*
 * What takes longer than `npm test` may: `tsx test/model/deep.ts [--search] [--walks] [--limit STATES] [--steps STEPS] [--seed N]
 * [--workers N]`; both unless told. It prints what it has searched, world by world, and fails on a violation, or where the limit cut it short. What is done is in `task.ts`.
 */
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'
import type { Done, Task } from './task.js'

const { values: options } = parseArgs({
  options: {
    search: { type: 'boolean', default: false },
    walks: { type: 'boolean', default: false },
    limit: { type: 'string', default: '1e9' },
    steps: { type: 'string', default: '1e8' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: String(availableParallelism()) },
  },
})
const both = !options.search && !options.walks
const CHUNK = 1_000_000
const folder = mkdtempSync(join(tmpdir(), 'lockpact-model-'))
const bundle = join(folder, 'task.mjs')

/** Hands tasks out, to as many processes as there are processors unless told, until one answers that there is no such task. */
async function run(task: (number: number) => Task): Promise<void> {
  const total: Record<string, number> = {}
  let started = 0
  const work = (): Promise<void> =>
    new Promise<void>((resolve) => {
      const worker = fork(bundle, { execArgv: ['--max-old-space-size=10000'] })
      const next = () => worker.send(task(started++))
      let hasAnswered = false
      let isOver = false
      worker.on('message', (done: Done | null) => {
        hasAnswered = true
        isOver = !done
        if (!done) return void worker.disconnect()
        for (const line of done.lines) console.log(line)
        for (const [name, count] of Object.entries(done.counts)) total[name] = (total[name] ?? 0) + count
        next()
      })
      worker.on('exit', (code, signal) => {
        if (isOver) return resolve()
        console.log(`A SEARCH OR A WALK FAILED: its process ended with ${code ?? signal}`)
        process.exitCode = 1
        // One that dies at once would die again.
        resolve(hasAnswered ? work() : undefined)
      })
      next()
    })
  await Promise.all(Array.from({ length: Number(options.workers) }, work))
  console.log(Object.entries(total).map(([name, count]) => `${count} ${name}`).join(', '))
  if (total['violations'] !== 0 || total['cut short']! > 0) process.exitCode = 1
}

try {
  await build({ entryPoints: [join(import.meta.dirname, 'task.ts')], outfile: bundle, bundle: true, packages: 'external', platform: 'node', format: 'esm', logLevel: 'error' })
  if (both || options.search) await run((number) => ({ search: number, limit: Number(options.limit) }))
  if (both || options.walks) await run((number) => ({ walk: number, steps: Math.min(CHUNK, Number(options.steps) - number * CHUNK), seed: Number(options.seed) }))
} finally {
  rmSync(folder, { recursive: true })
}

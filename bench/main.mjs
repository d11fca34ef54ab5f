/*
 * What lockpact costs. `node main.mjs [--json] [--quick] [--only cycle,peers,work,start,calls] [--library FILE] [--folder DIR]`
 *
 * Everything that is compared runs in turns in this one run, and ratios are taken turn by turn: on a busy machine the times wander,
 * the ratios much less. The bars are those of the design. Build first: it measures dist.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { countCalls } from './calls.mjs'
import { measureCycle } from './cycle.mjs'
import { measureHandOver, measureKilled, measureRefusal } from './peers.mjs'
import { measureImport } from './start.mjs'
import { print } from './table.mjs'
import { measureWork } from './work.mjs'

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: 'cycle,peers,work,start,calls' },
    library: { type: 'string', default: join(import.meta.dirname, '../dist/index.js') },
    folder: { type: 'string', default: tmpdir() },
  },
})
const isWanted = (part) => options.only.split(',').includes(part)
const library = pathToFileURL(resolve(options.library)).href
const lockpact = await import(library)
const folder = mkdtempSync(join(options.folder, 'lockpact-bench-'))

try {
  const rows = []
  if (isWanted('cycle')) rows.push(...(await measureCycle(lockpact, folder, options)))
  if (isWanted('peers')) {
    rows.push(...(await measureHandOver(library, folder, options)))
    rows.push(...(await measureKilled(library, folder, lockpact, options)))
    rows.push(...(await measureRefusal(library, folder, lockpact, options)))
  }
  if (isWanted('work')) rows.push(...(await measureWork(library, folder, options)))
  if (isWanted('start')) rows.push(...measureImport(library, options))
  const calls = isWanted('calls') ? countCalls(library, folder) : []
  const machine = { node: process.version, platform: process.platform, cpu: cpus()[0]?.model, cores: cpus().length, folder: options.folder }
  if (options.json) console.log(JSON.stringify({ machine, rows, calls }, null, 2))
  else print({ machine, rows, calls })
} finally {
  rmSync(folder, { recursive: true, force: true })
}

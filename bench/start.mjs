import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { median, now } from './measure.mjs'

const IMPORT = join(import.meta.dirname, 'import.mjs')
const EMPTY = pathToFileURL(join(import.meta.dirname, 'empty.mjs')).href
const BAR_MS = 3

/** The same process once with the library and once with an empty module, in turns: as a whole, and as it sees itself. */
export function measureImport(library, { quick }) {
  const samples = { empty: [], ours: [] }
  for (let round = 0; round < (quick ? 10 : 60); round++) {
    const turn = [['empty', EMPTY], ['ours', library]]
    for (const [name, module] of round % 2 ? turn.reverse() : turn) {
      const started = now()
      const { stdout } = spawnSync(process.execPath, [IMPORT, module], { encoding: 'utf8' })
      samples[name].push({ whole: now() - started, inside: Number(stdout) })
    }
  }
  const difference = (kind) => median(samples.ours.map((each, round) => each[kind] - samples.empty[round][kind]))
  const times = (name, kind) => median(samples[name].map((each) => each[kind]))
  return [
    { what: 'whole process, empty module', ms: times('empty', 'whole') },
    { what: 'whole process, import', ms: times('ours', 'whole') },
    { what: 'import over an empty module, whole process', ms: difference('whole'), bar: `${BAR_MS} ms`, isMet: difference('whole') <= BAR_MS },
    { what: 'import over an empty module, as the process sees it', ms: difference('inside'), bar: `${BAR_MS} ms`, isMet: difference('inside') <= BAR_MS },
  ]
}

import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { inTurns, median, now } from './measure.mjs'

const COMMAND = join(import.meta.dirname, '../dist/cli/main.js')
const CALL_BAR_MS = 2
const START_BAR = 1.5

/** A server, and a function that asks it. */
function server(folder) {
  const child = spawn(process.execPath, [COMMAND, 'mcp'], { cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] })
  const waiting = new Map()
  createInterface({ input: child.stdout }).on('line', (line) => {
    const { id, result, error } = JSON.parse(line)
    if (error) throw new Error(error.message)
    waiting.get(id)(result)
    waiting.delete(id)
  })
  let last = 0
  const ask = (method, params) =>
    new Promise((resolve) => {
      waiting.set(++last, resolve)
      child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id: last, method, params })}\n`)
    })
  return { ask, end: () => new Promise((resolve) => child.once('exit', resolve) && child.stdin.end()) }
}

const INITIALIZE = ['initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'bench', version: '0' } }]

/** A claim and its release as two calls, beside the same two calls of the library; and from the start to the first answer. */
export async function measureServer({ acquireLock, releaseLock }, folder, { quick }) {
  const workspace = join(folder, 'workspace')
  mkdirSync(join(workspace, '.lockpact'), { recursive: true })
  const { ask, end } = server(workspace)
  await ask(...INITIALIZE)
  const call = async (name, given) => (await ask('tools/call', { name, arguments: given })).structuredContent
  const contenders = {
    library: {
      async call() {
        const { token } = await acquireLock(join(workspace, 'library.md'), { detached: true, owner: 'bench' })
        await releaseLock(join(workspace, 'library.md'), token)
      },
    },
    server: {
      async call() {
        const { token } = await call('claim', { resource: 'server.md', owner: 'bench' })
        await call('release', { resource: 'server.md', token })
      },
    },
  }
  const samples = await inTurns(contenders, { rounds: quick ? 20 : 100, batch: 10 })
  await end()
  const over = median(samples.server.map((each, round) => (each - samples.library[round]) / 2))

  const starts = { empty: [], server: [] }
  for (let round = 0; round < (quick ? 10 : 40); round++) {
    const turns = { empty: () => spawnSync(process.execPath, ['-e', '0']), server: () => firstAnswer(workspace) }
    const names = round % 2 ? ['empty', 'server'] : ['server', 'empty']
    for (const name of names) {
      const started = now()
      const later = await turns[name]()
      starts[name].push(now() - started)
      if (name === 'server') await later.end()
    }
  }
  const ratio = median(starts.server.map((each, round) => each / starts.empty[round]))
  return [
    { what: 'claim and release, library', ms: median(samples.library) },
    { what: 'claim and release, two calls of the MCP server', ms: median(samples.server) },
    { what: 'a call over the library’s own', ms: over, bar: `${CALL_BAR_MS} ms`, isMet: over <= CALL_BAR_MS },
    { what: 'MCP server, start to first answer', ms: median(starts.server), ratio, to: 'node -e 0', bar: `${START_BAR}x`, isMet: ratio <= START_BAR },
  ]
}

async function firstAnswer(folder) {
  const { ask, end } = server(folder)
  await ask(...INITIALIZE)
  return { end }
}

/*
 * `lockpact mcp`, spoken to line by line, and by the official clients. Deeper, with the Inspector and the conformance suite:
 * test/deep/mcp.deep.ts.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { acquireLock, inspectLock, releaseLock } from 'lockpact'
import { createJob, recordRun, showJob, updateJob } from 'lockpact/jobs'
import { initWorkspace, readEvents } from 'lockpact/work'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { beginRun, FIELDS } from '../lib/jobs/index.js'
import { installed, type Json, load, MODERN, Peer, workspaceWithServer } from './mcp-peer.js'
import { commandPath, projectFolder, sleep, start, startNode, tempFolder, until } from './support.js'

const CANNOT = { parse: -32700, request: -32600, method: -32601, params: -32602, version: -32022 }
const modern = (params: object = {}) => ({ ...params, _meta: MODERN })
const tree = (dir: string) => readdirSync(dir, { recursive: true, encoding: 'utf8' }).sort()

describe('the two eras', () => {
  test('a legacy client is initialized with its version, or else offered the latest', async () => {
    const { peer } = workspaceWithServer()
    for (const protocolVersion of ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05']) {
      const { result } = await peer.ask('initialize', { protocolVersion, capabilities: {}, clientInfo: { name: 'test', version: '0' } })
      expect(result).toMatchObject({ protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'lockpact' } })
    }
    for (const protocolVersion of ['2026-07-28', '1999-01-01', 'soon']) expect((await peer.ask('initialize', { protocolVersion })).result.protocolVersion).toBe('2025-11-25')
    expect((await peer.ask('initialize', {})).error.code).toBe(CANNOT.params)
    peer.send({ jsonrpc: '2.0', method: 'notifications/initialized' })
    expect((await peer.ask('ping')).result).toEqual({})
    expect(Object.keys((await peer.ask('tools/list')).result)).toEqual(['tools'])
    expect(peer.others).toEqual([])
  })

  test('a modern client discovers, lists and calls without a handshake', async () => {
    const { peer } = workspaceWithServer()
    const common = { resultType: 'complete', _meta: { 'io.modelcontextprotocol/serverInfo': { name: 'lockpact' } } }
    const cached = { ttlMs: 3_600_000, cacheScope: 'public' }
    const { result } = await peer.ask('server/discover', modern())
    expect(result).toMatchObject({ ...common, ...cached, supportedVersions: ['2026-07-28'], capabilities: { tools: {} } })
    expect((await peer.ask('tools/list', modern())).result).toMatchObject({ ...common, ...cached })
    const called = await peer.ask('tools/call', modern({ name: 'status' }))
    expect(called.result).toMatchObject({ ...common, structuredContent: { locks: [] } })
  })

  test('one connection may mix them: what a request is, it says itself', async () => {
    const { peer } = workspaceWithServer()
    const answers = await Promise.all([
      peer.ask('tools/list', modern()),
      peer.ask('ping'),
      peer.ask('tools/list'),
      peer.ask('ping', modern()),
      peer.ask('initialize', modern({ protocolVersion: '2025-11-25' })),
      peer.ask('server/discover'),
    ])
    expect(answers.map(({ result, error }) => error?.code ?? result.resultType)).toEqual(['complete', undefined, undefined, CANNOT.method, CANNOT.method, CANNOT.params])
  })

  test('a _meta that says less than it must, or another version, is refused', async () => {
    const { peer } = workspaceWithServer()
    const METAS: [string, unknown, number][] = [
      ['without capabilities', { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' }, CANNOT.params],
      ['with capabilities that are none', { ...MODERN, 'io.modelcontextprotocol/clientCapabilities': [] }, CANNOT.params],
      ['without a version', { 'io.modelcontextprotocol/clientCapabilities': {} }, CANNOT.params],
      ['with a version that is no text', { ...MODERN, 'io.modelcontextprotocol/protocolVersion': 20260728 }, CANNOT.params],
      ['with a version of the future', { ...MODERN, 'io.modelcontextprotocol/protocolVersion': '2030-01-01' }, CANNOT.version],
      ['with a version of the past', { ...MODERN, 'io.modelcontextprotocol/protocolVersion': '2025-11-25' }, CANNOT.version],
      ['that is no object', 7, CANNOT.params],
    ]
    for (const [what, meta, code] of METAS) {
      const { error } = await peer.ask('tools/list', { _meta: meta })
      expect(error.code, what).toBe(code)
      if (code === CANNOT.version) expect(error.data).toEqual({ supported: ['2026-07-28'], requested: (meta as Json)['io.modelcontextprotocol/protocolVersion'] })
    }
  })

  test('a subscription is acknowledged, stays silent, and ends with the input', async () => {
    const { peer } = workspaceWithServer()
    const one = peer.ask('subscriptions/listen', modern({ notifications: { toolsListChanged: true } }), 'one')
    void peer.ask('subscriptions/listen', modern({ notifications: {} }), 'two')
    await until(() => peer.others.length === 2)
    expect(peer.others[0]).toEqual({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged', params: { _meta: { 'io.modelcontextprotocol/subscriptionId': 'one' }, notifications: {} } })
    peer.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 'two' } })
    await peer.ask('ping')
    expect(await peer.end()).toEqual({ code: 0, signal: null })
    expect((await one).result).toMatchObject({ resultType: 'complete', _meta: { 'io.modelcontextprotocol/subscriptionId': 'one' } })
    expect(peer.others).toHaveLength(2)
  })
})

describe('garbage', () => {
  const request = (fields: object) => JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'ping', ...fields })

  const GARBAGE: [string, string | Buffer, number, number?][] = [
    ['truncated JSON', '{"jsonrpc":"2.0","id":7,"meth', CANNOT.parse],
    ['no JSON', 'hello', CANNOT.parse],
    ['no UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22]), CANNOT.parse],
    ['a batch', `[${request({})},${request({ id: 8 })}]`, CANNOT.request],
    ['an empty batch', '[]', CANNOT.request],
    ['a text', '"ping"', CANNOT.request],
    ['null', 'null', CANNOT.request],
    ['an empty object', '{}', CANNOT.request],
    ['another version of JSON-RPC', request({ jsonrpc: '1.0' }), CANNOT.request, 7],
    ['no version of JSON-RPC', request({ jsonrpc: undefined }), CANNOT.request, 7],
    ['no method', request({ method: undefined }), CANNOT.request, 7],
    ['a method that is no text', request({ method: 1 }), CANNOT.request, 7],
    ['an id that is null', request({ id: null }), CANNOT.request],
    ['an id that is true', request({ id: true }), CANNOT.request],
    ['an id that is a fraction', request({ id: 1.5 }), CANNOT.request],
    ['an id that is beyond whole numbers', '{"jsonrpc":"2.0","id":1e400,"method":"ping"}', CANNOT.request],
    ['an id that is an object', request({ id: {} }), CANNOT.request],
    ['an id that is a list', request({ id: [7] }), CANNOT.request],
    ['params that are a text', request({ params: 'x' }), CANNOT.request, 7],
    ['params that are null', request({ params: null }), CANNOT.request, 7],
    ['params that are a list', request({ params: [] }), CANNOT.params, 7],
    ['an unknown method', request({ method: 'resources/list' }), CANNOT.method, 7],
    ['the name of a method of every object', request({ method: 'constructor' }), CANNOT.method, 7],
    ['an unknown tool', request({ method: 'tools/call', params: { name: 'toString' } }), CANNOT.params, 7],
    ['a tool without a name', request({ method: 'tools/call' }), CANNOT.params, 7],
    ['arguments that are a list', request({ method: 'tools/call', params: { name: 'status', arguments: [] } }), CANNOT.params, 7],
    ['a cursor', request({ method: 'tools/list', params: { cursor: 'x' } }), CANNOT.params, 7],
  ]

  test('each gets its code, and the server lives on', async () => {
    const { peer } = workspaceWithServer()
    for (const [what, line, code, id] of GARBAGE) {
      const answer = peer.expect(7)
      peer.send(line)
      peer.send('\n')
      expect((await peer.ask('ping', undefined, 'next')).result, what).toEqual({})
      const message = id === undefined ? peer.others.pop() : await answer
      expect(message, what).toEqual({ jsonrpc: '2.0', ...(id !== undefined && { id }), error: { code, message: expect.any(String) } })
      expect(peer.others, what).toEqual([])
    }
  })

  test('an id comes back as it is', async () => {
    const { peer } = workspaceWithServer()
    for (const id of [0, -1, 2 ** 53 - 1, '', '7', 'ä\u2028\n']) expect(await peer.ask('ping', undefined, id)).toEqual({ jsonrpc: '2.0', id, result: {} })
  })

  test('notifications and answers are never answered, whatever is in them; nor are empty lines', async () => {
    const { dir, peer } = workspaceWithServer()
    peer.send({ jsonrpc: '2.0', method: 'tools/call', params: { name: 'claim', arguments: { resource: 'queue.md' } } })
    for (const method of ['ping', 'nothing', 'notifications/cancelled', 'notifications/initialized']) for (const params of [undefined, 7, [], {}]) peer.send({ jsonrpc: '2.0', method, params })
    peer.send({ jsonrpc: '2.0', id: 1, result: {} })
    peer.send({ jsonrpc: '2.0', id: 1, error: { code: 1, message: 'x' } })
    peer.send('\n \r\n\n')
    await peer.ask('ping')
    expect(peer.others).toEqual([])
    expect(tree(dir)).toEqual(['.lockpact', '.lockpact/.gitignore'])
  })

  test('a message may come in any pieces, and several in one', async () => {
    const { peer } = workspaceWithServer()
    const answers = [peer.expect('ä'), peer.expect(2), peer.expect(3)]
    const bytes = Buffer.from('{"jsonrpc":"2.0","id":"ä","method":"ping"}\r\n{"jsonrpc":"2.0","id":2,"method":"ping"}\n{"jsonrpc":"2.0","id":3,"method":"ping"}\n')
    for (const byte of bytes.subarray(0, 60)) {
      peer.send(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    peer.send(bytes.subarray(60))
    expect((await Promise.all(answers)).map(({ result }) => result)).toEqual([{}, {}, {}])
  })

  test('a line of 10 MB is a message like any other; one of 40 MB is not kept', async () => {
    const { peer } = workspaceWithServer()
    const long = 'x'.repeat(10_000_000)
    expect((await peer.ask('ping', { long })).result).toEqual({})
    expect((await peer.ask(long)).error.code).toBe(CANNOT.method)
    expect(await peer.problem('claim', { resource: long })).toContain('too long')
    peer.send(`${long}\n`)
    peer.send(`${'['.repeat(10_000_000)}\n`)
    for (let part = 0; part < 4; part++) peer.send(long)
    peer.send('\n')
    expect((await peer.ask('ping')).result).toEqual({})
    expect(peer.others.map(({ error }) => error.code)).toEqual([CANNOT.parse, CANNOT.parse, CANNOT.request])
  })

  test('an argument of another type, one too many, one too few: each is refused by name, and nothing is done', async () => {
    const { dir, peer } = workspaceWithServer()
    const { tools } = (await peer.ask('tools/list')).result
    const values: Record<string, unknown> = { string: 'x', number: 5, boolean: true, object: {}, array: [{}], null: null }
    let asked = 0
    for (const { name, inputSchema } of tools as Json[]) {
      const { properties, required } = inputSchema
      const sound = Object.fromEntries(required.map((each: string) => [each, properties[each].type === 'array' ? ['x'] : (properties[each].enum?.[0] ?? 'x')]))
      const wrong: [string, object][] = required.map((each: string) => [each, { ...sound, [each]: undefined }])
      wrong.push(['surprise', { ...sound, surprise: 1 }], ['__proto__', JSON.parse(`${JSON.stringify(sound).slice(0, -1)}${required.length ? ',' : ''}"__proto__":1}`)])
      for (const [each, { type, enum: words }] of Object.entries<Json>(properties)) {
        for (const [kind, value] of Object.entries(values)) if (kind !== type || kind === 'array') wrong.push([each, { ...sound, [each]: value }])
        if (words) wrong.push([each, { ...sound, [each]: 'x' }])
      }
      for (const [argument, given] of wrong) {
        const { error } = await peer.ask('tools/call', { name, arguments: given })
        expect(error, `${name} ${JSON.stringify(given)}`).toMatchObject({ code: CANNOT.params, message: expect.stringContaining(argument) })
        asked++
      }
    }
    expect(asked).toBeGreaterThan(200)
    expect(tree(dir)).toEqual(['.lockpact', '.lockpact/.gitignore'])
  })

  test('a value that a tool cannot use is told to the agent', async () => {
    const { peer } = workspaceWithServer()
    const VALUES: [string, object, string][] = [
      ['claim', { resource: 'a', ttl_seconds: 0 }, 'ttl_seconds must be from 1 to 604800, not 0'],
      ['claim', { resource: 'a', wait_seconds: -1 }, 'wait_seconds'],
      ['claim', { resource: '' }, 'empty'],
      ['claim', { resource: 'a\0b' }, 'NUL'],
      ['claim', { resource: 'a', owner: 'o'.repeat(500) }, 'owner'],
      ['renew', { resource: 'a', token: '' }, 'token'],
      ['declare', { task: 't', writes: [] }, 'writes'],
      ['declare', { task: 't', writes: ['../elsewhere'] }, 'outside of the workspace'],
      ['gate', { key: '' }, 'key'],
      ['gate', { key: 'k', every_seconds: 60, slot: 'x' }, 'every'],
      ['take_item', { queue: 'none.md' }, 'there is no queue'],
      ['append_line', { file: 'log.md', text: 'two\nlines' }, 'single line'],
      ['jobs', { action: 'update', job: 'j', fields: { task: 'x' }, if_rev: -1 }, 'if_rev must be from 0'],
    ]
    for (const [name, given, words] of VALUES) expect(await peer.problem(name, given)).toContain(words)
  })
})

describe('beginning and ending', () => {
  test('it does nothing until it is asked, and ends with its input', async () => {
    const { dir, peer } = workspaceWithServer()
    const before = tree(dir)
    expect(await peer.end()).toEqual({ code: 0, signal: null })
    expect([peer.child.out(), peer.child.err(), tree(dir)]).toEqual(['', '', before])
  })

  test('what was asked before the end is answered, also a last line without its newline', async () => {
    const { peer } = workspaceWithServer()
    const answers = [peer.ask('tools/call', { name: 'claim', arguments: { resource: 'a.md' } }), peer.expect('last')]
    peer.send('{"jsonrpc":"2.0","id":"last","method":"ping"}')
    expect(await peer.end()).toEqual({ code: 0, signal: null })
    const [claimed, last] = await Promise.all(answers)
    expect(claimed.result.structuredContent.granted).toBe(true)
    expect(last.result).toEqual({})
  })

  test('so is all that has been asked for by then, and gets into each other’s way', async () => {
    const { dir, peer } = workspaceWithServer()
    writeFileSync(join(dir, 'queue.md'), '- [ ] an item\n')
    const calls = [['append_line', { file: 'log.md', text: 'one' }], ['append_line', { file: 'log.md', text: 'two' }], ['gate', { key: 'k' }], ['declare', { task: 't', writes: ['.'], policy: 'queue' }], ['take_item', { queue: 'queue.md' }], ['status', {}]] as const
    const answers = calls.map(([name, given]) => peer.ask('tools/call', { name, arguments: given }))
    expect(await peer.end()).toEqual({ code: 0, signal: null })
    for (const { result } of await Promise.all(answers)) expect(Object.values(result.structuredContent)[0]).toBeTruthy()
    expect(readFileSync(join(dir, 'log.md'), 'utf8').split('\n')).toHaveLength(3)
  })

  test('a call that waits when the input ends is answered: refused, by whom', async () => {
    const { dir, peer } = workspaceWithServer()
    await acquireLock(join(dir, 'a.md'), { owner: 'presence', detached: true })
    const waiting = peer.ask('tools/call', { name: 'claim', arguments: { resource: 'a.md', wait_seconds: 600 } })
    await peer.ask('ping')
    expect(await peer.end()).toEqual({ code: 0, signal: null })
    expect((await waiting).result.structuredContent).toMatchObject({ granted: false, holder: 'presence' })
  })

  test('a call that is cancelled stops waiting, is not answered, and leaves nothing', async () => {
    const { dir, peer } = workspaceWithServer()
    const lock = await acquireLock(join(dir, 'a.md'), { detached: true })
    await peer.call('declare', { task: 'other', writes: ['docs'] })
    const answered: string[] = []
    const calls = [['claim', { resource: 'a.md', wait_seconds: 600 }], ['declare', { task: 'mine', writes: ['docs'], policy: 'queue', wait_seconds: 600 }]] as const
    for (const [name, given] of calls) void peer.ask('tools/call', { name, arguments: given }, name).then((answer) => answer && answered.push(name))
    await until(async () => (await peer.call('status')).intents.length === 2)
    for (const requestId of ['claim', 'declare', 'nothing', 1]) peer.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } })
    await until(async () => (await peer.call('status')).intents.length === 1)
    await lock.release()
    expect(await peer.call('claim', { resource: 'a.md' })).toMatchObject({ granted: true })
    expect(answered).toEqual([])
  })

  test('an id that is in use is not answered twice', async () => {
    const { dir, peer } = workspaceWithServer()
    const lock = await acquireLock(join(dir, 'a.md'), { detached: true })
    const waiting = peer.ask('tools/call', { name: 'claim', arguments: { resource: 'a.md', wait_seconds: 600 } }, 'same')
    peer.send({ jsonrpc: '2.0', id: 'same', method: 'ping' })
    await until(() => peer.others.length === 1)
    expect(peer.others[0]).toEqual({ jsonrpc: '2.0', error: { code: CANNOT.request, message: expect.stringContaining('"same" is in use') } })
    await lock.release()
    expect((await waiting).result.structuredContent.granted).toBe(true)
  })

  test('what is granted when nobody reads any more is given back', async () => {
    const { dir, peer } = workspaceWithServer()
    await peer.call('append_line', { file: 'queue.md', text: 'a line' })
    writeFileSync(join(dir, 'queue.md'), '- [ ] an item\n')
    peer.child.process.stdout!.destroy()
    for (const [name, given] of [['claim', { resource: 'a.md' }], ['gate', { key: 'k' }], ['declare', { task: 't', writes: ['b.md'] }], ['take_item', { queue: 'queue.md' }]] as const) void peer.ask('tools/call', { name, arguments: given })
    await peer.child.ended
    const second = new Peer(dir)
    const { locks, slots, intents } = await second.call('status')
    expect([locks, intents]).toEqual([[], []])
    // The end may come before the gate was asked.
    expect(slots.filter(({ state }: { state: string }) => state !== 'free')).toEqual([])
    expect(readFileSync(join(dir, 'queue.md'), 'utf8')).toBe('- [ ] an item\n')
  })
})

/** Calls of a tool, each answer held against the shape that the tool names; and the first fields of these. */
async function validated(peer: Peer, folder: string) {
  const { default: ajv } = await load(folder, 'ajv/dist/2020.js')
  const seen = new Map<string, Set<string>>()
  const shapes = new Map<string, Json>()
  for (const { name, outputSchema } of (await peer.ask('tools/list')).result.tools) {
    shapes.set(name, new ajv.default({ strict: false }).compile(outputSchema))
    seen.set(name, new Set())
  }
  const call = async (name: string, given: object = {}) => {
    const { structuredContent, content, isError } = await peer.tool(name, given)
    expect(isError, content[0].text).toBeUndefined()
    expect(shapes.get(name)(structuredContent), `${name} ${JSON.stringify([structuredContent, shapes.get(name).errors])}`).toBe(true)
    expect(JSON.parse(content[0].text)).toEqual(structuredContent)
    seen.get(name)!.add(String(Object.values(structuredContent)[0]))
    return structuredContent
  }
  return { call, seen }
}

describe('the tools', () => {
  test('a claim is a lock that everybody sees, and outlives the server', async () => {
    const { dir, peer } = workspaceWithServer()
    const { granted, token, resource, until: end } = await peer.call('claim', { resource: 'memory/queue.md', owner: 'hourly', reason: 'take one', ttl_seconds: 900 })
    expect({ granted, resource }).toEqual({ granted: true, resource: join(dir, 'memory/queue.md') })
    expect(inspectLock(join(dir, 'memory/queue.md')).stamp).toMatchObject({ owner: 'hourly', reason: 'take one', ttlMs: 900_000, expiresAt: end, processes: [] })
    await peer.kill()
    const second = new Peer(dir)
    const refused = await second.call('claim', { resource: 'memory/queue.md', owner: 'presence' })
    expect(refused).toMatchObject({ granted: false, holder: 'hourly', reason: 'take one', until: end, retry_after_seconds: expect.any(Number), message: expect.stringContaining('lockpact status') })
    expect(refused.retry_after_seconds).toBeGreaterThan(800)
    await expect(acquireLock(join(dir, 'memory/queue.md'))).rejects.toMatchObject({ code: 'ELOCKED' })
    expect(await second.call('renew', { resource: 'memory/queue.md', token })).toMatchObject({ renewed: true })
    expect(await second.call('release', { resource: 'memory/queue.md', token })).toMatchObject({ released: true })
    expect(inspectLock(join(dir, 'memory/queue.md')).state).toBe('free')
    expect(readEvents(dir).map(({ type, by, against }) => [type, by, against])).toEqual([['refused', 'presence', 'hourly']])
  })

  test('a token that is not the holder’s is an error that says who it is', async () => {
    const { peer } = workspaceWithServer()
    for (const name of ['renew', 'release']) expect(await peer.problem(name, { resource: 'a.md', token: 'mine' })).toContain('nobody holds it')
    const { token } = await peer.call('claim', { resource: 'a.md', owner: 'presence' })
    for (const name of ['renew', 'release']) expect(await peer.problem(name, { resource: 'a.md', token: 'mine' })).toContain('"presence"')
    await peer.call('gate', { key: 'k', owner: 'hourly' })
    for (const name of ['done', 'fail', 'free']) expect(await peer.problem(name, { key: 'k', token })).toContain('"hourly" has it since')
    expect(await peer.problem('withdraw', { task: 't', token })).toContain('was withdrawn, or its time was over')
  })

  test('a claim is not the server’s: it does not look after it, and misses nothing when others end it', async () => {
    const { dir, peer } = workspaceWithServer()
    const { token } = await peer.call('claim', { resource: 'a.md', ttl_seconds: 60 })
    await releaseLock(join(dir, 'a.md'), token)
    const { token: second } = await peer.call('claim', { resource: 'b.md', ttl_seconds: 60 })
    await peer.call('release', { resource: 'b.md', token: second })
    // A process looks after its own locks once a second.
    await sleep(1_500)
    await peer.end()
    expect(readEvents(dir)).toEqual([])
  })

  test('who expired is followed, and told so', async () => {
    const { peer } = workspaceWithServer()
    const { token } = await peer.call('claim', { resource: 'a.md', owner: 'early', ttl_seconds: 1 })
    expect(await peer.call('claim', { resource: 'a.md', owner: 'late', wait_seconds: 30 })).toMatchObject({ granted: true, recovered: { owner: 'early' } })
    expect(await peer.problem('release', { resource: 'a.md', token })).toContain('"late"')
  })

  test('relative paths are relative to the workspace: the nearest, LOCKPACT_DIR, --dir', async () => {
    const { dir } = workspaceWithServer()
    mkdirSync(join(dir, 'deep/er'), { recursive: true })
    const elsewhere = tempFolder()
    const servers = [new Peer(join(dir, 'deep/er')), new Peer(elsewhere, [], { LOCKPACT_DIR: dir }), new Peer(elsewhere, ['--dir', dir]), new Peer(dir, ['--dir', '.'])]
    for (const [index, peer] of servers.entries()) {
      for (const [resource, file] of [['a.md', join(dir, 'a.md')], [join(elsewhere, 'b.md'), join(elsewhere, 'b.md')], ['name:deploy', 'name:deploy']] as const) {
        const { resource: claimed, token } = await peer.call('claim', { resource })
        expect(claimed, String(index)).toBe(file)
        if (resource.startsWith('name:')) expect(tree(dir)).toContain('.lockpact/locks/deploy.lock')
        await peer.call('release', { resource, token })
      }
      expect((await peer.call('declare', { task: `t${index}`, writes: [`w${index}`] })).writes).toEqual([`w${index}`])
    }
  })

  test('without a workspace files can be claimed, relative to the working folder; the rest says what to do', async () => {
    const dir = tempFolder()
    const peer = new Peer(dir)
    expect((await peer.call('claim', { resource: 'a.md' })).resource).toBe(join(dir, 'a.md'))
    expect((await peer.call('status', { paths: ['a.md'] })).locks).toHaveLength(1)
    for (const [name, given] of [['gate', { key: 'k' }], ['declare', { task: 't', writes: ['a'] }], ['status', {}], ['jobs', { action: 'list' }], ['claim', { resource: 'name:x' }], ['done', { key: 'k', token: 't' }], ['withdraw', { task: 't', token: 't' }]] as const) expect(await peer.problem(name, given)).toContain('lockpact init')
    initWorkspace(dir)
    expect((await peer.call('gate', { key: 'k' })).go).toBe(true)
    const named = new Peer(dir, ['--dir', join(dir, 'nothing')])
    expect(await named.problem('claim', { resource: 'a.md' })).toContain('lockpact init')
  })

  test('an agent goes on under its own claim', async () => {
    const { dir, peer } = workspaceWithServer()
    writeFileSync(join(dir, 'queue.md'), '- [ ] an item\n')
    const { token: claim_token } = await peer.call('claim', { resource: 'queue.md' })
    const { token } = await peer.call('take_item', { queue: 'queue.md', claim_token })
    await peer.call('finish_item', { queue: 'queue.md', token, claim_token })
    await peer.call('append_line', { file: 'queue.md', text: 'a line', claim_token })
    expect(readFileSync(join(dir, 'queue.md'), 'utf8')).toMatch(/^- \[x\] an item\n\S+Z a line\n$/)
    expect(await peer.problem('append_line', { file: 'queue.md', text: 'x', claim_token: 'wrong' })).toContain('does not hold')
  })

  test('a day of one agent and of another: every answer is of the shape that its tool names, and is repeated as text', async ({ skip }) => {
    const packages = await installed('@modelcontextprotocol/sdk', '@modelcontextprotocol/client')
    if ('why' in packages) return skip(packages.why)
    const { dir, peer } = workspaceWithServer()
    writeFileSync(join(dir, 'queue.md'), '- [ ] an item\n  and more\n')
    const { call, seen } = await validated(peer, packages.folder)
    const { token } = await call('claim', { resource: 'a.md', owner: 'hourly' })
    await call('claim', { resource: 'a.md', reason: 'too late' })
    await call('status')
    await call('renew', { resource: 'a.md', token })
    writeFileSync(join(dir, 'foreign.lock'), 'another program')
    await call('claim', { resource: 'foreign' })
    const endless = await acquireLock(join(dir, 'endless'), { ttl: Infinity })
    expect((await call('claim', { resource: 'endless' })).retry_after_seconds).toBeUndefined()
    await endless.release()
    const one = await call('gate', { key: 'k', owner: 'hourly', every_seconds: 3600 })
    await call('gate', { key: 'k', cooldown_seconds: 60 })
    await call('status')
    await call('fail', { key: 'k', token: one.token, note: 'no luck' })
    const two = await call('gate', { key: 'k', slot: 'today' })
    expect(two.failures).toBe(1)
    await call('done', { key: 'k', token: two.token, note: 'shipped' })
    await call('gate', { key: 'k', slot: 'today' })
    const three = await call('gate', { key: 'k' })
    await call('free', { key: 'k', token: three.token })
    const intent = await call('declare', { task: 'weekly', writes: ['docs', 'name:deploy'], owner: 'hourly' })
    await call('declare', { task: 'daily', writes: ['docs/a.md', 'a.md'] })
    await call('declare', { task: 'late', writes: ['docs'], policy: 'queue', wait_seconds: 0 })
    const warned = await call('declare', { task: 'bold', writes: ['docs'], policy: 'warn' })
    expect(warned.overlaps).toMatchObject([{ task: 'weekly' }])
    await call('status')
    await call('withdraw', { task: 'weekly', token: intent.token })
    const first = await call('take_item', { queue: 'queue.md', owner: 'hourly' })
    await call('take_item', { queue: 'queue.md' })
    await call('return_item', { queue: 'queue.md', token: first.token })
    const second = await call('take_item', { queue: 'queue.md' })
    expect(second.item).toMatchObject({ text: 'an item\n  and more', line: 1 })
    await call('finish_item', { queue: 'queue.md', token: second.token, result: 'shipped' })
    await call('append_line', { file: 'log.md', text: 'a line', rotate_bytes: 1000 })
    await call('release', { resource: 'a.md', token })
    await call('jobs', { action: 'list' })
    const { totals, pairs, skips } = await call('report')
    expect([totals.refused, totals.skipped, totals.conflict > 0, pairs.length > 0, skips.length > 0]).toEqual([3, 2, true, true, true])
    expect([...seen].filter(([, answers]) => answers.size === 0)).toEqual([])
    expect(['claim', 'gate', 'declare', 'take_item'].map((name) => [...seen.get(name)!].sort())).toEqual(Array(4).fill(['false', 'true']))
  })

  test('a file that somebody holds is an answer, too', async () => {
    const { dir, peer } = workspaceWithServer()
    writeFileSync(join(dir, 'queue.md'), '- [ ] an item\n')
    const { token } = await peer.call('take_item', { queue: 'queue.md' })
    await acquireLock(join(dir, 'queue.md'), { owner: 'presence', detached: true })
    const answers = await Promise.all([
      peer.call('take_item', { queue: 'queue.md', wait_seconds: 0 }),
      peer.call('finish_item', { queue: 'queue.md', token, wait_seconds: 0 }),
      peer.call('return_item', { queue: 'queue.md', token, wait_seconds: 0.1 }),
      peer.call('append_line', { file: 'queue.md', text: 'x', wait_seconds: 0 }),
    ])
    for (const answer of answers) expect(answer).toMatchObject({ holder: 'presence', message: expect.any(String) })
    expect(answers.map((answer) => Object.entries(answer)[0])).toEqual([['taken', false], ['finished', false], ['returned', false], ['appended', false]])
  })

  test('each says what it does to the world, and how long what it gives lasts', async () => {
    const { peer } = workspaceWithServer()
    const { tools } = (await peer.ask('tools/list')).result
    for (const { name, title, description, annotations, inputSchema, outputSchema } of tools) {
      expect(name).toMatch(/^[a-z_]{1,64}$/)
      expect([title, description].every((words) => words.length > 10)).toBe(true)
      expect(annotations, name).toEqual({ readOnlyHint: ['status', 'report'].includes(name), destructiveHint: name === 'jobs', idempotentHint: ['status', 'report'].includes(name), openWorldHint: false })
      expect([inputSchema.type, inputSchema.additionalProperties, outputSchema.type]).toEqual(['object', false, 'object'])
      if (outputSchema.properties.token) expect(description, name).toMatch(/lasts? ttl_seconds|yours for ttl_seconds/)
    }
  })
})

describe('jobs', () => {
  const HOURLY = { kind: 'cron', expr: '0 * * * *', tz: 'Europe/Berlin' }
  const LATER = '2099-01-01T00:00:00.000Z'
  const roster = (dir: string) => readFileSync(join(dir, '.lockpact/jobs.json'), 'utf8')
  const shapeOf = async (peer: Peer) => (await peer.ask('tools/list')).result.tools.find(({ name }: Json) => name === 'jobs')

  test('list, show, create, update, pause, resume, delete: every answer is of the shape that is named, without nulls', async ({ skip }) => {
    const packages = await installed('@modelcontextprotocol/sdk', '@modelcontextprotocol/client')
    if ('why' in packages) return skip(packages.why)
    const { dir, peer } = workspaceWithServer()
    mkdirSync(join(dir, 'memory'))
    writeFileSync(join(dir, 'memory/prompt.md'), 'Reply.')
    const { outputSchema } = await shapeOf(peer)
    const validatedCalls = await validated(peer, packages.folder)
    const call = async (action: string, given: object = {}) => {
      const answer = await validatedCalls.call('jobs', { action, ...given })
      expect(JSON.stringify(answer)).not.toContain('null')
      expect(Object.keys(answer.job ?? {}).filter((field) => !(field in outputSchema.properties.job.properties))).toEqual([])
      return answer
    }
    expect(await call('list')).toEqual({ jobs: [] })
    const fields = {
      ...{ name: 'Heartbeat', description: 'answers', enabled: true, schedule: HOURLY, taskSource: 'memory/prompt.md', command: ['claude', '-p'], delivery: { channel: 'slack', target: '#ops' } },
      ...{ writes: ['memory/queue.md'], policy: 'queue', slot: { key: 'heartbeat', every: '1h', cooldown: 900_000 }, timeout: '30m' },
    }
    const { job } = await call('create', { fields, owner: 'hourly' })
    expect(job).toMatchObject({ ...fields, id: expect.stringMatching(/^job-/), rev: 1, createdBy: 'hourly', status: 'active', runCount: 0 })
    const { job: once } = await call('create', { fields: { name: 'once', schedule: { kind: 'at', at: LATER }, task: 'a long prompt', command: 'cat', deleteAfterRun: true, timeout: 60_000 } })
    expect(once).toMatchObject({ nextRunAt: LATER, task: 'a long prompt', deleteAfterRun: true })
    const { jobs } = await call('list')
    expect(jobs.map(({ name }: Json) => name)).toEqual(['Heartbeat', 'once'])
    expect(jobs[1]).toEqual({ ...once, task: undefined })
    for (const name of [job.id, 'HEARTBEAT']) expect(await call('show', { job: name })).toEqual({ job })
    expect((await call('pause', { job: 'heartbeat' })).job).toMatchObject({ id: job.id, status: 'paused', rev: 2 })
    expect((await call('resume', { job: job.id })).job).toMatchObject({ status: 'active', nextRunAt: job.nextRunAt })
    const begun = (await beginRun('heartbeat', { dir, ttlMs: 60_000, pid: process.pid, owner: 'scheduler' })) as Json
    const shown = await call('show', { job: 'heartbeat' })
    expect(shown.job.running).toEqual({ by: 'scheduler', since: begun.job.running.since, until: begun.job.running.until })
    await recordRun('heartbeat', { status: 'error', startedAt: Date.now(), durationMs: 5, error: 'exit status 3', taskSha256: 'ab'.repeat(32) }, { dir })
    expect((await call('show', { job: 'heartbeat' })).job).toMatchObject({ lastRunStatus: 'error', lastRunError: 'exit status 3', consecutiveErrors: 1 })
    expect((await call('delete', { job: 'once' })).job).toEqual(once)
    expect((await call('list')).jobs).toHaveLength(1)
    expect(readEvents(dir).filter(({ type, by }) => type === 'job' && by === 'hourly')).toMatchObject([{ why: 'created' }])
  })

  const PATCHES: [object, object][] = [
    [{ task: 'another prompt' }, { task: { before: 'a prompt', after: 'another prompt' } }],
    [{ taskSource: 'prompt.md' }, { task: { before: 'a prompt' }, taskSource: { after: 'prompt.md' } }],
    [{ schedule: { kind: 'every', every: '20m' } }, { schedule: { before: HOURLY, after: { kind: 'every', every: '20m' } } }],
    [{ description: null, delivery: { channel: 'slack', target: '#dev' }, enabled: false }, { description: { before: 'old' }, delivery: { after: { channel: 'slack', target: '#dev' } }, enabled: { before: true, after: false } }],
    [{ task: 'a prompt', timeout: null }, {}],
  ]
  test.each(PATCHES)('update with %j says what has changed; id and history stay, byte for byte, also during a run', async (fields, changed) => {
    const { dir, peer } = workspaceWithServer()
    writeFileSync(join(dir, 'prompt.md'), 'Do.')
    await createJob({ name: 'other', schedule: HOURLY as never, task: 'y' }, { dir })
    const { id, rev } = await createJob({ name: 'job', description: 'old', schedule: HOURLY as never, task: 'a prompt' }, { dir, owner: 'me' })
    await recordRun('job', { status: 'ok', startedAt: '2026-01-02T03:04:05.678Z', durationMs: 1234.5 }, { dir })
    await recordRun('job', { status: 'error', startedAt: '2026-01-03T03:04:05.678Z', durationMs: 17, error: 'exit status 3' }, { dir })
    await beginRun('job', { dir, ttlMs: 60_000, pid: process.pid, owner: 'scheduler' })
    const history = () => [/.*"name":"other".*/, new RegExp(`\\{"id":"${id}"`), /"createdAt":[^}]*"createdBy":"me"/, /"lastRunAt":"2026-01-03.*"running":\{.*?"dueAt":null\}/].map((part) => part.exec(roster(dir))![0])
    const events = () => readFileSync(join(dir, '.lockpact/events.jsonl'), 'utf8')
    const [before, eventsBefore] = [history(), events()]
    expect(before.at(-1)).toContain('"runCount":2,"consecutiveErrors":1')
    const answer = await peer.call('jobs', { action: 'update', job: 'job', fields, if_rev: rev })
    expect(answer.changed).toEqual(changed)
    const isChanged = Object.keys(changed).length > 0
    expect(answer.job).toMatchObject({ id, rev: isChanged ? 2 : 1, runCount: 2, lastRunError: 'exit status 3' })
    expect(history()).toEqual(before)
    expect(events().startsWith(eventsBefore)).toBe(true)
    expect(events().slice(eventsBefore.length).match(/"why":"\w+"/g) ?? []).toEqual(isChanged ? ['"why":"updated"'] : [])
  })

  test('if_rev refuses what was decided by an older state; without it, what others say about other fields stays', async () => {
    const { dir, peer } = workspaceWithServer()
    const second = new Peer(dir)
    const { job } = await peer.call('jobs', { action: 'create', fields: { name: 'job', schedule: HOURLY, task: 'x' } })
    await second.call('jobs', { action: 'update', job: job.id, fields: { task: 'y' }, if_rev: job.rev })
    expect(await peer.problem('jobs', { action: 'update', job: job.id, fields: { task: 'z' }, if_rev: job.rev })).toContain('has been changed since you read it: its rev is 2, not 1')
    await Promise.all([
      peer.call('jobs', { action: 'update', job: 'job', fields: { description: 'by one' } }),
      second.call('jobs', { action: 'update', job: 'job', fields: { timeout: '5m' } }),
      updateJob('job', { writes: ['docs'] }, { dir }),
    ])
    expect(showJob('job', { dir })).toMatchObject({ rev: 5, task: 'y', description: 'by one', timeout: '5m', writes: ['docs'] })
  })

  test('what it cannot do it says, and does nothing', async () => {
    const { dir, peer } = workspaceWithServer()
    await createJob({ name: 'job', schedule: HOURLY as never, task: 'x' }, { dir })
    const before = roster(dir)
    const job = 'job'
    const WRONG: [object, string][] = [
      ...['show', 'update', 'pause', 'resume', 'delete'].map((action): [object, string] => [{ action, fields: { task: 'y' } }, 'job is missing']),
      ...['show', 'pause', 'resume', 'delete'].map((action): [object, string] => [{ action, job, fields: { task: 'y' } }, `${action} has no use for fields`]),
      [{ action: 'list', job }, 'list has no use for job'],
      [{ action: 'create' }, 'fields is missing: create needs fields'],
      [{ action: 'create', job, fields: { name: 'j', schedule: HOURLY, task: 'y' } }, 'create has no use for job'],
      [{ action: 'delete', job, if_rev: 1 }, 'delete has no use for if_rev'],
      [{ action: 'update', job }, 'fields is missing: update needs job and fields'],
      [{ action: 'update', job, fields: {} }, 'the patch is empty'],
      [{ action: 'update', job, fields: { id: 'job-0123456789' } }, '"id" is not for an author to say'],
      [{ action: 'update', job, fields: { runCount: 0 } }, '"runCount" is not for an author to say'],
      [{ action: 'update', job, fields: JSON.parse('{"__proto__":1}') }, '"__proto__" is not for an author to say'],
      [{ action: 'update', job, fields: { name: null } }, 'a job cannot be without name'],
      [{ action: 'update', job, fields: { task: null } }, 'a job needs something to do'],
      [{ action: 'update', job, fields: { task: 5 } }, 'task must be a text'],
      [{ action: 'update', job, fields: { schedule: { kind: 'cron', expr: '0 25 * * *' } } }, '"25" is no hour'],
      [{ action: 'update', job, fields: { taskSource: 'none.md' } }, `there is no ${join(dir, 'none.md')}`],
      [{ action: 'update', job, fields: { writes: ['../x'] } }, 'outside of the workspace'],
      [{ action: 'update', job, fields: { timeout: 'soon' } }, 'timeout must be'],
      [{ action: 'update', job: 'other', fields: { task: 'y' } }, 'there is no job "other"; there are "job"'],
      [{ action: 'create', fields: { name: 'JOB', schedule: HOURLY, task: 'y' } }, 'there is a job "job" already'],
      [{ action: 'create', fields: { name: 'j', task: 'y' } }, 'a job needs a schedule'],
      [{ action: 'pause', job, owner: 'o'.repeat(500) }, 'owner'],
    ]
    for (const [given, words] of WRONG) expect(await peer.problem('jobs', given), JSON.stringify(given)).toContain(words)
    expect(roster(dir)).toBe(before)
  })

  test('a damaged roster is an error that says where, and is left as it is', async () => {
    const { dir, peer } = workspaceWithServer()
    await createJob({ name: 'job', schedule: HOURLY as never, task: 'x' }, { dir })
    const damaged = roster(dir).replace('"enabled":true', '"enabled":tru')
    writeFileSync(join(dir, '.lockpact/jobs.json'), damaged)
    const fields = { name: 'new', schedule: HOURLY, task: 'x' }
    const CALLS = [{ action: 'list' }, { action: 'create', fields }, { action: 'update', job: 'job', fields }, ...['show', 'pause', 'resume', 'delete'].map((action) => ({ action, job: 'job' }))]
    for (const given of CALLS) expect(await peer.problem('jobs', given), given.action).toMatch(/jobs\.json is damaged: .*line 2, column \d+/)
    expect(roster(dir)).toBe(damaged)
  })

  test('the schema of fields names what an author says, and lets null stand for each', async () => {
    const { inputSchema } = await shapeOf(workspaceWithServer().peer)
    const { properties } = inputSchema.properties.fields
    expect(Object.keys(properties).sort()).toEqual([...FIELDS].sort())
    for (const { anyOf } of Object.values<Json>(properties)) expect(anyOf).toContainEqual({ type: 'null' })
  })
})

describe('contention', () => {
  test('two servers and a shell, and a server that is killed at any moment: at most one is granted, the others learn whom', async () => {
    const { dir, peer } = workspaceWithServer()
    const servers = [peer, new Peer(dir)]
    await Promise.all(servers.map((server) => server.ask('ping')))
    let granted = 0
    for (let round = 0; round < 16; round++) {
      const file = join(dir, `round-${round}.md`)
      // Every other time there is one to be taken over.
      if (round % 2) {
        const dead = startNode(`const lock = await acquireLock(${JSON.stringify(file)}, { owner: 'dead' }); say('held'); process.kill(process.pid, 'SIGKILL')`)
        await dead.ended
      }
      const victim = round % 3 ? servers[round % 2] : undefined
      const shell = start(['sh', '-c', `exec ${process.execPath} ${commandPath} acquire ${file} --owner shell --json`], { cwd: dir })
      const started = new Promise((resolve) => setTimeout(resolve, 40 + Math.random() * 60))
      const claims = servers.map(async (server, index) => {
        await started
        return (await server.ask('tools/call', { name: 'claim', arguments: { resource: file, owner: `server-${index}` } }))?.result.structuredContent
      })
      if (victim) void started.then(() => setTimeout(() => void victim.kill(), Math.random() * 8))
      const answers: Json[] = await Promise.all(claims)
      await shell.ended
      const { held, holder } = JSON.parse(shell.out())
      answers.push(held ? { granted: true, owner: 'shell' } : { granted: false, holder: holder?.owner })
      const winners = answers.filter((answer) => answer?.granted)
      expect(winners.length, JSON.stringify(answers)).toBeLessThanOrEqual(1)
      granted += winners.length
      // Who was killed took its answer along, perhaps with the claim.
      const owner = inspectLock(file).stamp?.owner
      if (winners.length === 1) expect(owner).toBe(winners[0].owner)
      for (const answer of answers) if (answer && !answer.granted && answer.holder !== undefined && answer.holder !== 'dead') expect(answer.holder).toBe(owner)
      if (victim) {
        await victim.kill()
        servers[round % 2] = new Peer(dir)
        await servers[round % 2]!.ask('ping')
      }
    }
    expect(granted).toBeGreaterThan(0)
  })

  test('nothing is lost: a counter, under claims that outlive their servers', async () => {
    const { dir } = workspaceWithServer()
    const file = join(dir, 'counter')
    writeFileSync(file, '0')
    const add = () => writeFileSync(file, String(Number(readFileSync(file, 'utf8')) + 1))
    const agent = async (owner: string) => {
      let peer = new Peer(dir)
      for (let turn = 0; turn < 6; turn++) {
        const { token } = await peer.call('claim', { resource: 'counter', owner, wait_seconds: 60 })
        if (turn % 2) {
          await peer.kill()
          peer = new Peer(dir)
        }
        add()
        await peer.call('release', { resource: 'counter', token })
      }
    }
    const lockpact = `${process.execPath} ${commandPath}`
    const shell = start(['sh', '-ec', `for turn in 1 2 3 4 5 6; do T=$(${lockpact} acquire counter --owner shell --wait 60s -q); echo $(($(cat counter) + 1)) > counter.new; cat counter.new > counter; ${lockpact} release counter --token "$T" -q; done`], { cwd: dir })
    await Promise.all([agent('one'), agent('two'), shell.ended])
    expect(shell.err()).toBe('')
    expect(Number(readFileSync(file, 'utf8'))).toBe(18)
  })
})

describe('the official clients', () => {
  let packages: Awaited<ReturnType<typeof installed>>
  beforeAll(async () => {
    packages = await installed('@modelcontextprotocol/sdk', '@modelcontextprotocol/client')
  })
  const clients = [
    ['@modelcontextprotocol/sdk', 'sdk', undefined, '2025-11-25'],
    ['@modelcontextprotocol/client, legacy', 'client', { mode: 'legacy' }, '2025-11-25'],
    ['@modelcontextprotocol/client, auto', 'client', { mode: 'auto' }, '2026-07-28'],
    ['@modelcontextprotocol/client, pinned', 'client', { mode: { pin: '2026-07-28' } }, '2026-07-28'],
  ] as const
  const opened: Json[] = []
  afterAll(() => Promise.all(opened.map((client) => client.close())))

  test.for(clients)('%s connects, lists, is granted, is refused, and validates all of it', async ([, name, versionNegotiation, version], { skip }) => {
    if ('why' in packages) return skip(packages.why)
    const { folder } = packages
    const [{ Client }, { StdioClientTransport }] = name === 'sdk' ? [await load(folder, '@modelcontextprotocol/sdk/client/index.js'), await load(folder, '@modelcontextprotocol/sdk/client/stdio.js')] : [await load(folder, '@modelcontextprotocol/client'), await load(folder, '@modelcontextprotocol/client/stdio')]
    const dir = tempFolder()
    initWorkspace(dir)
    const connect = async () => {
      const client = new Client({ name: 'test', version: '0' }, { ...(versionNegotiation && { versionNegotiation }) })
      opened.push(client)
      await client.connect(new StdioClientTransport({ command: process.execPath, args: [commandPath, 'mcp'], cwd: dir, stderr: 'ignore' }))
      return client
    }
    const [one, two] = [await connect(), await connect()]
    if (name === 'client') expect(one.getNegotiatedProtocolVersion?.() ?? version).toBe(version)
    expect(one.getServerVersion()).toMatchObject({ name: 'lockpact' })
    expect(one.getInstructions()).toContain('gate')
    const { tools } = await one.listTools()
    await two.listTools()
    expect(tools.map((tool: Json) => tool.name)).toContain('claim')
    const call = async (client: Json, tool: string, given: object) => (await client.callTool({ name: tool, arguments: given })).structuredContent
    const { granted, token } = await call(one, 'claim', { resource: 'a.md', owner: 'one' })
    expect(granted).toBe(true)
    expect(await call(two, 'claim', { resource: 'a.md' })).toMatchObject({ granted: false, holder: 'one' })
    expect(await two.callTool({ name: 'release', arguments: { resource: 'a.md', token: 'guessed' } })).toMatchObject({ isError: true })
    await expect(two.callTool({ name: 'claim', arguments: {} })).rejects.toMatchObject({ code: CANNOT.params })
    const waiting = new AbortController()
    const waited = two.callTool({ name: 'claim', arguments: { resource: 'a.md', wait_seconds: 600 } }, ...(name === 'sdk' ? [undefined] : []), { signal: waiting.signal })
    setTimeout(() => waiting.abort(), 50)
    await expect(waited).rejects.toThrow()
    expect(await call(one, 'release', { resource: 'a.md', token })).toMatchObject({ released: true })
    expect(await call(two, 'gate', { key: 'k' })).toMatchObject({ go: true })
    expect(await call(one, 'gate', { key: 'k' })).toMatchObject({ go: false, reason: 'running' })
  })
})

describe('templates/mcp.md', () => {
  const page = readFileSync(join(projectFolder, 'templates/mcp.md'), 'utf8')
  const snippets = (language: string) => [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, 'gm'))].map((match) => match[1]!)
  const registrations: Json[] = snippets('json').map((code) => JSON.parse(code)).filter((each) => 'mcpServers' in each || 'servers' in each)
  const examples: Json[] = snippets('json').map((code) => JSON.parse(code)).filter((each) => !registrations.some((other) => JSON.stringify(other) === JSON.stringify(each)))

  test('every registration starts a server that answers', async () => {
    expect(registrations).toHaveLength(3)
    const dir = tempFolder()
    initWorkspace(dir)
    mkdirSync(join(dir, 'node_modules/.bin'), { recursive: true })
    writeFileSync(join(dir, 'node_modules/.bin/lockpact'), `#!/bin/sh\nexec ${process.execPath} ${commandPath} "$@"\n`, { mode: 0o755 })
    const lines = registrations.map((each) => Object.values<Json>(each)[0].lockpact).map(({ command, args }) => [command, ...args].join(' '))
    const [toml] = snippets('toml')
    lines.push([/command = "(.*)"/.exec(toml!)![1], ...JSON.parse(/args = (.*)/.exec(toml!)![1]!)].join(' '))
    for (const [, line] of page.matchAll(/mcp add .*?lockpact (?:-- )?(npx .*?)`/g)) lines.push(line!)
    expect(lines).toHaveLength(7)
    for (const line of new Set(lines)) {
      const child = start(['sh', '-c', line.replace('${workspaceFolder}', dir)], { cwd: dir })
      child.process.stdin!.end('{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}\n')
      expect(JSON.parse(await child.line()).result.serverInfo.name, line).toBe('lockpact')
      expect((await child.ended).code).toBe(0)
    }
  })

  test('the examples are calls and answers of the tool', async ({ skip }) => {
    const [call, ...answers] = examples
    const { peer } = workspaceWithServer()
    expect(await peer.call(call.name, call.arguments)).toMatchObject({ granted: true, owner: 'hourly' })
    expect(answers.map(({ granted }) => granted)).toEqual([true, false])
    const packages = await installed('@modelcontextprotocol/sdk', '@modelcontextprotocol/client')
    if ('why' in packages) return skip(packages.why)
    const { default: ajv } = await load(packages.folder, 'ajv/dist/2020.js')
    const { outputSchema } = (await peer.ask('tools/list')).result.tools.find(({ name }: Json) => name === 'claim')
    const isSound = new ajv.default({ strict: false }).compile({ ...outputSchema, additionalProperties: false })
    for (const answer of answers) expect(isSound(answer), JSON.stringify(isSound.errors)).toBe(true)
  })

  test('names every tool, and no other', async () => {
    const { tools } = (await workspaceWithServer().peer.ask('tools/list')).result
    const named = new Set([...page.split('| the agent wants')[1]!.matchAll(/`([a-z_]+)`/g)].map((match) => match[1]))
    expect(tools.map(({ name }: Json) => name).filter((name: string) => !named.has(name))).toEqual([])
  })
})

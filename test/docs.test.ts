import { spawnSync } from 'node:child_process'
import { appendFileSync, cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { decode } from '../lib/core/stamp.js'
import { commandPath, has, projectFolder, tempFolder } from './support.js'

/* Every example is read out of the document and run, as a user would: in a project where the package is installed. */

const CONVENTION = ['README.md', 'CONTRIBUTING.md', 'templates/CONTRIBUTING.md']
const templates = readdirSync(join(projectFolder, 'templates'), { recursive: true, encoding: 'utf8' }).filter((name) => statSync(join(projectFolder, 'templates', name)).isFile())
/** Those about a shared memory folder. */
const MEMORY = templates.filter((name) => name.endsWith('.md') && name !== 'CONTRIBUTING.md' && name !== 'phantom.md' && name !== 'mcp.md').map((name) => `templates/${name}`)
const document = (name: string) => readFileSync(join(projectFolder, name), 'utf8')

function examples(name: string): { language: string; code: string; line: number }[] {
  const text = document(name)
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map((match) => ({ language: match[1]!, code: match[2]!, line: text.slice(0, match.index).split('\n').length }))
}

/** The commands of a page that stand in the text. */
function inline(name: string): string[] {
  return [...document(name).replace(/^```[\s\S]*?^```$/gm, '').matchAll(/`((?:npx )?lockpact [a-z][^`]*)`/g)].map((match) => match[1]!)
}

// ---- what this build has ----

const lockpact = (args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) => spawnSync(process.execPath, [commandPath, ...args], { encoding: 'utf8', ...options })
const built = new Set([...lockpact(['--help']).stdout.matchAll(/^ {2}(\w+) /gm)].map((match) => match[1]!))
if (!built.has('acquire')) throw new Error('lockpact --help shows no commands: is it built?')
const CALL = /(?:lockpact|main\.js) ([a-z]+)/g

/** Why an example cannot run in this build; '' when it can. */
function lack(code: string): string {
  const missing = [...code.matchAll(CALL)].map((match) => match[1]!).find((name) => !built.has(name))
  if (missing !== undefined) return `no command ${missing} in this build`
  const emitting = /(?:lockpact|main\.js) ([a-z]+)[^\n]* --emit/.exec(code)?.[1]
  return emitting !== undefined && !lockpact([emitting, '--help']).stdout.includes('--emit') ? `no option --emit of ${emitting} in this build` : ''
}

// ---- where they run ----

/** A project where lockpact is installed. */
function project(folder = tempFolder()): string {
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true })
  symlinkSync(projectFolder, join(folder, 'node_modules/lockpact'))
  writeFileSync(join(folder, 'node_modules/.bin/lockpact'), `#!/bin/sh\nexec ${process.execPath} ${commandPath} "$@"\n`, { mode: 0o755 })
  return folder
}

function withQueue(): string {
  const folder = project()
  cpSync(join(projectFolder, 'test/demo/memory'), join(folder, 'memory'), { recursive: true })
  writeFileSync(join(folder, 'memory/contribution-queue.md'), '# Queue\n')
  return folder
}

/** As `lockpact init` leaves it, with an item in the queue. */
function workspace(folder?: string): string {
  const root = project(folder)
  expect(lockpact(['init', root]).status).toBe(0)
  appendFileSync(join(root, 'memory/contribution-queue.md'), '- [ ] the item\n')
  return root
}

const alone: NodeJS.ProcessEnv = { ...process.env }
for (const name of ['LOCKPACT_SESSION', 'LOCKPACT_DIR', 'LOCKPACT_GATE', 'CLAUDE_CODE_SESSION_ID']) delete alone[name]
const SESSION = { ...alone, LOCKPACT_SESSION: 'docs' }

function run(language: string, code: string, folder: string) {
  if (language === 'sh') return spawnSync('sh', ['-e', '-c', code], { cwd: folder, encoding: 'utf8' })
  const file = join(folder, 'example.mts')
  writeFileSync(file, code)
  return spawnSync(process.execPath, ['--import', import.meta.resolve('tsx'), file], { cwd: folder, encoding: 'utf8' })
}

const locksIn = (folder: string) => spawnSync('find', ['memory', '-name', '*.lock*'], { cwd: folder, encoding: 'utf8' }).stdout

// ---- README and the convention ----

describe.each(CONVENTION)('%s', (name) => {
  const found = examples(name)

  test.for(found.filter(({ language }) => language === 'sh' || language === 'ts'))('the $language example at line $line works', ({ language, code }, { skip }) => {
    skip(lack(code) !== '', lack(code))
    const folder = withQueue()
    const { status, stdout, stderr } = run(language, code.includes('TOKEN=') ? `${code}test -n "$TOKEN"` : code, folder)
    if (code.includes('lockpact status')) expect(stdout).toMatch(/^held .* hourly /m)
    expect(stderr.replace(/^(lockpact: |npm warn ).*\n/gm, '')).toBe('')
    expect(status).toBe(0)
    if (code.includes('an idea')) expect(readFileSync(join(folder, 'memory/contribution-queue.md'), 'utf8')).toBe('# Queue\n- [ ] an idea\n')
    // Nothing is left: who comes next gets every lock.
    expect(locksIn(folder)).toBe('')
  })

  test.each(found.filter(({ language }) => language === 'json'))('the stamp at line $line is one', ({ code }) => {
    expect(decode(code).kind).toBe('stamp')
  })

  test('has no example that nobody runs', () => {
    expect(found.map(({ language }) => language).filter((language) => !['sh', 'ts', 'json', 'text'].includes(language))).toEqual([])
    expect(found.length).toBeGreaterThan(0)
  })
})

test('the convention in CONTRIBUTING.md is the template, word for word', () => {
  const between = document('CONTRIBUTING.md').split('<!-- lockpact:convention -->\n')[1]?.split('<!-- /lockpact:convention -->')[0]
  expect(between).toBe(document('templates/CONTRIBUTING.md'))
})

test('the README names the two commands', () => {
  expect(document('README.md')).toContain('npm ci && npm run demo')
  expect(document('README.md')).toContain('npm ci && npm test')
})

test.for(examples('templates/CONTRIBUTING.md').filter(({ language }) => language !== 'json'))('refused, the example at line $line touches nothing', ({ language, code }, { skip }) => {
  skip(lack(code) !== '', lack(code))
  const folder = withQueue()
  writeFileSync(join(folder, 'memory/contribution-queue.md.lock'), '{"v":1,"owner":"me"}\n')
  const { status, stderr } = run(language, code.replace("wait: '30s'", "wait: '100ms'").replace('--wait 30s', ''), folder)
  if (/^(node -e|npx)/.test(code)) expect(status).toBe(75)
  expect(stderr).not.toBe('')
  expect(readFileSync(join(folder, 'memory/contribution-queue.md'), 'utf8')).toBe('# Queue\n')
  expect(readFileSync(join(folder, 'memory/contribution-queue.md.lock'), 'utf8')).toBe('{"v":1,"owner":"me"}\n')
})

// ---- the other templates ----

/** Who types an example. */
const WAYS: Record<string, (folder: string, code: string) => { status: number | null; stderr: string }> = {
  run: (cwd, code) => lockpact(['run', '--slot', 'heartbeat', '--done', 'explicit', '--', 'sh', '-e', '-c', code], { cwd, env: alone }),
  'in Claude Code': (cwd, code) => spawnSync('sh', ['-e', '-c', code], { cwd, encoding: 'utf8', env: { ...alone, CLAUDE_CODE_SESSION_ID: 'docs' } }),
  'as a person who did what the rules say': (cwd, code) => spawnSync('sh', ['-e', '-c', `${EXPORT}\n${code}`], { cwd, encoding: 'utf8', env: { ...alone, USER: 'ada' } }),
}
const [, EXPORT = 'exit 1 # not in the rules'] = /`(export [^`]*)`/.exec(document('templates/memory/README.md')) ?? []

/** What an example must have done, by what it says. */
const EFFECTS: [RegExp, file: string, content: RegExp][] = [
  [/lockpact finish/, 'contribution-queue.md', /^- \[x\] the item \(.+\)$/m],
  [/echo "- \[ \] an idea"/, 'contribution-queue.md', /- \[ \] the item\n- \[ \] an idea\n$/],
  [/append memory\/heartbeat-log\.md/, 'heartbeat-log.md', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (hourly: )?shipped/m],
  [/sed 's\/presence\/attendance/, 'todo.md', /^\| attendance \|/m],
]

describe.each(MEMORY)('%s', (name) => {
  const found = examples(name)

  // done and fail are about the run around them.
  const ways = found.filter(({ language }) => language === 'sh').flatMap(({ code, line }) => (/^npx lockpact (done|fail|free) --/m.test(code) ? ['run'] : Object.keys(WAYS)).map((way) => ({ code, line, way })))

  test.for(ways)('the example at line $line works, $way', ({ code, way }, { skip }) => {
    skip(lack(code) !== '', lack(code))
    const folder = workspace()
    const { status, stderr } = WAYS[way]!(folder, code)
    expect(stderr.replace(/^(lockpact: |npm warn ).*\n/gm, '')).toBe('')
    expect(status).toBe(0)
    for (const [said, file, content] of EFFECTS) if (said.test(code)) expect(readFileSync(join(folder, 'memory', file), 'utf8')).toMatch(content)
    if (/^npx lockpact done/m.test(code)) expect(lockpact(['gate', 'heartbeat', '--cooldown', '15m'], { cwd: folder, env: alone }).status).toBe(75)
    expect(locksIn(folder)).toBe('')
  })

  test.for(inline(name))('`%s` is a command with these options', (code, { skip }) => {
    skip(lack(code) !== '', lack(code))
    const [, command = ''] = /lockpact ([a-z]+)/.exec(code)!
    const help = lockpact([command, '--help'])
    expect(help.status).toBe(0)
    for (const [option] of code.split(' -- ')[0]!.matchAll(/--[a-z-]+/g)) expect(help.stdout).toContain(option)
  })

  test('has no example that nobody runs', () => {
    expect(found.map(({ language }) => language).filter((language) => !['sh', 'text'].includes(language))).toEqual([])
  })
})

test('what an agent is told to type is what the crontab allows it, without a token', () => {
  const [allowed] = /(?<=Bash\()[^:]+(?=:\*\))/.exec(document('templates/crontab').split('PATH=/')[1]!)!
  for (const name of ['templates/AGENTS.md', ...MEMORY]) {
    const typed = examples(name).filter(({ language }) => language === 'sh').flatMap(({ code }) => code.split('\n'))
    for (const line of typed.filter((line) => line !== '' && !line.startsWith('#'))) expect(`${line} `, name).toMatch(new RegExp(`^${allowed} (?!.*token)`, 'i'))
    for (const code of inline(name).filter((code) => code.startsWith('npx'))) expect(code, name).not.toMatch(/token/i)
  }
})

test('whoever is told to work by a prompt is told how to say that it has shipped', () => {
  for (const name of ['memory/README.md', 'memory/heartbeat-prompt.md', 'AGENTS.md', 'skills/lockpact/SKILL.md', 'hermes-gate.sh']) expect(document(`templates/${name}`), name).toMatch(/lockpact done .*--/)
  const prompts = [...document('templates/jobs.md').matchAll(/--task '([^']*)'/g), ...document('templates/crontab').matchAll(/claude -p "([^"]*)"/g)].map((match) => match[1]!)
  expect(prompts.length).toBe(3)
  for (const prompt of prompts) expect(prompt).toMatch(/npx lockpact done|^\$\(cat memory\/heartbeat-prompt\.md\)$/)
})

test('the queue of the template has nothing to take, and its first item is taken', ({ skip }) => {
  skip(lack('lockpact take') !== '', lack('lockpact take'))
  const folder = project()
  lockpact(['init', folder])
  const take = () => JSON.parse(lockpact(['take', 'memory/contribution-queue.md', '--json'], { cwd: folder, env: SESSION }).stdout) as { item: { text: string } | null }
  expect(take().item).toBe(null)
  appendFileSync(join(folder, 'memory/contribution-queue.md'), '- [ ] the item\n')
  expect(take().item).toMatchObject({ text: 'the item' })
})

test('the skill has what agents look for in its front matter', () => {
  const [, front] = document('templates/skills/lockpact/SKILL.md').split(/^---$/m)
  const fields = Object.fromEntries(front!.trim().split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]))
  expect(Object.keys(fields)).toEqual(['name', 'description'])
  expect(fields['name']).toBe('lockpact')
  expect(fields['description']!.length).toBeLessThanOrEqual(1024)
  // YAML would read these otherwise.
  expect(fields['description']).not.toMatch(/: | #|^['"[{>|*&!%@`]/)
})

describe('templates/claude-settings.json', () => {
  const { hooks } = JSON.parse(document('templates/claude-settings.json')) as { hooks: Record<string, { hooks: { type: string; command: string }[] }[]> }
  const commandFor = (event: string) => hooks[event]![0]!.hooks[0]!.command
  const fire = (event: string, folder: string, session: string, env: Record<string, string> = {}, more: object = {}) =>
    spawnSync('sh', ['-c', commandFor(event)], {
      cwd: dirname(folder),
      encoding: 'utf8',
      env: { ...alone, CLAUDE_PROJECT_DIR: folder, ...env },
      input: JSON.stringify({ session_id: session, hook_event_name: event, prompt: 'say {"session_id": "other"}', cwd: folder, ...more }),
    })

  test('every entry is a command, with a matcher where the event is about tools', () => {
    const entry = { hooks: [{ type: 'command', command: expect.any(String) }] }
    expect(hooks).toEqual({ UserPromptSubmit: [entry], PreToolUse: [{ matcher: 'Write|Edit|MultiEdit|NotebookEdit|Bash', ...entry }], Stop: [entry] })
  })

  test('a write to what somebody else holds is stopped, another goes on without a word', ({ skip }) => {
    skip(lack(commandFor('PreToolUse')) !== '', lack(commandFor('PreToolUse')))
    const folder = workspace()
    const write = () => fire('PreToolUse', folder, 'one', {}, { tool_name: 'Write', tool_input: { file_path: join(folder, 'memory/todo.md'), content: '' } })
    expect(write()).toMatchObject({ status: 0, stdout: '', stderr: '' })
    lockpact(['acquire', 'memory/todo.md', '--owner', 'hourly'], { cwd: folder, env: { ...alone, LOCKPACT_SESSION: 'two' } })
    expect(write().status).toBe(2)
    expect(write().stderr).toContain('hourly')
  })

  test.each(['UserPromptSubmit', 'Stop'])('without LOCKPACT_GATE, %s does nothing and says nothing', (event) => {
    expect(fire(event, tempFolder(), 'one')).toMatchObject({ status: 0, stdout: '', stderr: '' })
  })

  test('with it, the second prompt is blocked before the model, and the end of the first opens the slot again', ({ skip }) => {
    skip(lack(commandFor('UserPromptSubmit')) !== '', lack(commandFor('UserPromptSubmit')))
    const folder = workspace()
    const gate = { LOCKPACT_GATE: 'heartbeat --cooldown 15m' }
    expect(fire('UserPromptSubmit', folder, 'one', gate).status).toBe(0)
    const blocked = fire('UserPromptSubmit', folder, 'two', gate)
    expect(blocked.status).toBe(2)
    expect(blocked.stderr).toContain('heartbeat')
    expect(fire('Stop', folder, 'two', gate).status).toBe(0)
    expect(fire('UserPromptSubmit', folder, 'two', gate).status).toBe(2)
    expect(fire('Stop', folder, 'one', gate)).toMatchObject({ status: 0, stdout: '' })
    expect(fire('UserPromptSubmit', folder, 'two', gate).status).toBe(0)
  })

  test('an agent that said done keeps the slot done after its end', ({ skip }) => {
    skip(lack(commandFor('UserPromptSubmit')) !== '', lack(commandFor('UserPromptSubmit')))
    const folder = workspace()
    const gate = { LOCKPACT_GATE: 'heartbeat --cooldown 15m' }
    expect(fire('UserPromptSubmit', folder, 'one', gate).status).toBe(0)
    expect(lockpact(['done', 'heartbeat', '--note', 'the reply'], { cwd: folder, env: { ...alone, CLAUDE_CODE_SESSION_ID: 'one' } }).status).toBe(0)
    expect(fire('Stop', folder, 'one', gate).status).toBe(0)
    expect(fire('UserPromptSubmit', folder, 'two', gate).status).toBe(2)
  })
})

describe('templates/phantom.md', () => {
  const tools = examples('templates/phantom.md').map(({ language, code }) => {
    expect(language).toBe('json')
    return JSON.parse(code) as { name: string; description: string; input_schema: Record<string, string>; handler_type: string; handler_code: string }
  })

  test('the tools are what phantom_register_tool takes', () => {
    expect(tools.map(({ name }) => name)).toEqual(['phantom_claim', 'phantom_release'])
    for (const tool of tools) {
      expect(Object.keys(tool)).toEqual(['name', 'description', 'input_schema', 'handler_type', 'handler_code'])
      expect(tool.name).toMatch(/^[a-z][a-z0-9_]{0,99}$/)
      expect(tool.description.length).toBeLessThanOrEqual(1000)
      for (const type of Object.values(tool.input_schema)) expect(['string', 'number', 'boolean']).toContain(type)
      expect(tool.handler_type).toBe('shell')
    }
  })

  test(`claim, refuse, release, as Phantom calls them (with ${has('bun') ? 'bun' : 'node in the place of bun'})`, ({ skip }) => {
    const why = tools.map(({ handler_code }) => lack(handler_code)).find((why) => why !== '') ?? ''
    skip(why !== '', why)
    const app = tempFolder()
    workspace(join(app, 'phantom-config'))
    mkdirSync(join(app, 'bin'))
    if (!has('bun')) symlinkSync(process.execPath, join(app, 'bin/bun'))
    const call = (at: number, input: Record<string, unknown>) => {
      const env = { PATH: `${join(app, 'bin')}:${process.env['PATH']}`, HOME: app, LANG: 'en_US.UTF-8', TERM: 'xterm-256color', TOOL_INPUT: JSON.stringify(input) }
      const { status, stdout, stderr } = spawnSync('bash', ['-c', tools[at]!.handler_code], { cwd: app, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
      expect(status, stderr).toBe(0)
      return JSON.parse(stdout) as Record<string, any>
    }
    const claimed = call(0, { resource: 'memory/todo.md', ttl_seconds: 90, owner: 'hourly' })
    expect(claimed).toMatchObject({ held: true, owner: 'hourly', token: expect.any(String) })
    const left = Date.parse(claimed['expiresAt']) - Date.now()
    expect(left).toBeGreaterThan(30_000)
    expect(left).toBeLessThanOrEqual(90_000)
    expect(call(0, { resource: 'memory/todo.md', owner: 'presence' })).toMatchObject({ held: false, holder: { owner: 'hourly' } })
    // Phantom lets every field be absent, and makes an error of any exit status.
    expect(call(0, {})['held']).not.toBe(true)
    call(1, { resource: 'memory/todo.md', token: 'wrong' })
    call(1, { resource: 'memory/todo.md', token: claimed['token'] })
    expect(call(0, { resource: 'memory/todo.md' })).toMatchObject({ held: true })
  })
})

describe('templates/hermes-gate.sh', () => {
  const script = join(projectFolder, 'templates/hermes-gate.sh')
  const gate = (home: string) => spawnSync('bash', [script], { encoding: 'utf8', cwd: home, env: { ...alone, HOME: home } })
  const lastLine = (stdout: string) => JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Record<string, unknown>

  test('without the folder it fails, so that the agent starts and somebody notices', () => {
    expect(gate(tempFolder()).status).toBe(1)
  })

  test('the first fire wakes the agent and gives it the token; the second says not to', ({ skip }) => {
    const code = document('templates/hermes-gate.sh')
    skip(lack(code) !== '', lack(code))
    const home = tempFolder()
    const folder = workspace(join(home, 'project'))
    const first = gate(home)
    expect(first.status).toBe(0)
    expect(lastLine(first.stdout)).toMatchObject({ wakeAgent: true, token: expect.any(String) })
    const second = gate(home)
    expect(second.status).toBe(0)
    expect(second.stdout).toMatch(/^NO_WORK/m)
    expect(lastLine(second.stdout)['wakeAgent']).toBe(false)
    // What the prompt says.
    const [, ending] = /(node_modules\/.bin\/lockpact done heartbeat --token TOKEN)/.exec(code.replace(/\n# /g, ' '))!
    const token = String(lastLine(first.stdout)['token'])
    expect(spawnSync('sh', ['-c', `${ending!.replace('TOKEN', token)} --note 'the reply'`], { cwd: folder, env: alone }).status).toBe(0)
    expect(lastLine(gate(home).stdout)['wakeAgent']).toBe(false)
  })
})

describe('templates/crontab', () => {
  const lines = document('templates/crontab').split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const jobs = lines.filter((line) => !line.startsWith('PATH='))

  test('is a PATH without variables and two lines of five fields and a command, without a % that would end it', () => {
    expect(lines[0]).toMatch(/^PATH=(\/[\w./-]+)(:\/[\w./-]+)*$/)
    expect(jobs.length).toBe(2)
    for (const job of jobs) expect(job).toMatch(/^([\d*,/-]+ ){5}[^%]+$/)
  })

  test('hourly starts with the prompt of this moment, ships, and is not started again; presence is, whenever nobody is at it', ({ skip }) => {
    const why = lack(jobs.join('\n')) || lack('lockpact done')
    skip(why !== '', why)
    const home = tempFolder()
    const folder = workspace(join(home, 'project'))
    mkdirSync(join(home, 'bin'))
    // What an agent does: it looks at its prompt, and says what it shipped.
    writeFileSync(join(home, 'bin/claude'), `#!/bin/sh\nprintf '%s\\n' "$2" >> "$HOME/prompts"\nnpx lockpact done --note 'the reply' >> "$HOME/said" 2>&1\n`, { mode: 0o755 })
    const PATH = `${join(home, 'bin')}:${dirname(process.execPath)}:${lines[0]!.slice(5)}`
    const fire = (at: number) => spawnSync('sh', ['-c', jobs[at]!.replace(/^(\S+ ){5}/, '')], { cwd: home, env: { HOME: home, SHELL: '/bin/sh', PATH }, encoding: 'utf8' })
    const prompts = () => readFileSync(join(home, 'prompts'), 'utf8')
    writeFileSync(join(folder, 'memory/heartbeat-prompt.md'), 'as edited a moment ago\n')
    expect(fire(0)).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(prompts()).toBe('as edited a moment ago\n')
    expect(fire(0)).toMatchObject({ status: 0, stdout: '', stderr: '' })
    expect(prompts()).toBe('as edited a moment ago\n')
    expect(fire(1).status).toBe(0)
    expect(prompts()).toBe('as edited a moment ago\nas edited a moment ago\n')
    expect(readFileSync(join(home, 'said'), 'utf8')).not.toContain('token')
  })
})

test('every template is tested here, and names no folder of somebody\'s machine', () => {
  // mcp.md: in mcp.test.ts; the hooks for Gemini CLI and Codex: in init.test.ts.
  const tested = ['CONTRIBUTING.md', 'phantom.md', 'mcp.md', 'claude-settings.json', 'gemini-settings.json', 'codex-hooks.json', 'hermes-gate.sh', 'crontab', 'gitignore', ...MEMORY.map((name) => name.replace('templates/', ''))]
  expect([...templates].sort()).toEqual(tested.sort())
  for (const name of templates) expect(document(`templates/${name}`), name).not.toMatch(/\/(home|root|Users|work|tmp)\//)
  expect(templates.reduce((sum, name) => sum + statSync(join(projectFolder, 'templates', name)).size, 0)).toBeLessThan(24_576)
})

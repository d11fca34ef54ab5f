import { checkOperands, type Command, EXIT, help, Io, parse, text, usageError, wantedBy, writeErr, writeOut } from './command.js'

interface Entry {
  about: string
  load: () => Promise<Command>
}

// One lazily loaded file per command or small family: a cold start reads what it needs.
const GROUPS: Record<string, Record<string, Entry>> = {
  locks: {
    acquire: { about: 'take a lock that outlives this command; prints its token', load: async () => (await import('./acquire.js')).command },
    renew: { about: "make a lock's lease begin anew", load: async () => (await import('./renew.js')).command },
    release: { about: 'give a lock back', load: async () => (await import('./release.js')).command },
    status: { about: 'who holds what, since when, until when', load: async () => (await import('./status.js')).command },
    sweep: { about: 'remove stale locks below a folder', load: async () => (await import('./sweep.js')).command },
    break: { about: 'remove a lock by force', load: async () => (await import('./break.js')).command },
  },
  slots: {
    run: { about: 'run a command while holding a slot, locks, or write intents', load: async () => (await import('./run.js')).command },
    gate: { about: 'go, or skip: somebody is at it or has done it', load: async () => (await import('./gate.js')).command },
    done: { about: 'end a run: shipped', load: async () => (await import('./slots.js')).done },
    fail: { about: 'end a run: failed, open again at once', load: async () => (await import('./slots.js')).fail },
    free: { about: 'end a run: nothing to ship, open again', load: async () => (await import('./slots.js')).free },
    slots: { about: 'who is at what, what was done when', load: async () => (await import('./slots.js')).slots },
  },
  'write intents': {
    declare: { about: 'say what a task will write, before it starts', load: async () => (await import('./declare.js')).command },
    intents: { about: 'who has declared what', load: async () => (await import('./intents.js')).intents },
    withdraw: { about: 'end what a task has declared', load: async () => (await import('./intents.js')).withdraw },
  },
  jobs: {
    lead: { about: 'of many, one runs its command; the others wait and follow', load: async () => (await import('./lead.js')).command },
    jobs: { about: 'a roster of jobs: add, list, show, update, pause, run, due, …', load: async () => (await import('./jobs.js')).command },
  },
  files: {
    take: { about: 'take the next open item of a Markdown queue', load: async () => (await import('./queue.js')).take },
    finish: { about: 'tick an item that was taken', load: async () => (await import('./queue.js')).finish },
    return: { about: 'open an item again that was taken', load: async () => (await import('./queue.js')).giveBack },
    append: { about: 'add one line, stamped with the time', load: async () => (await import('./lines.js')).append },
    tail: { about: 'the last lines', load: async () => (await import('./lines.js')).tail },
    edit: { about: 'change a file by a command: old text in, new text out', load: async () => (await import('./edit.js')).command },
  },
  setup: {
    init: { about: 'set a workspace up from the templates; can be run again', load: async () => (await import('./init.js')).command },
    guard: { about: 'hook for coding agents: stops writes to what others hold', load: async () => (await import('./guard.js')).command },
    mcp: { about: 'serve all of this to agents that speak MCP', load: async () => (await import('./mcp.js')).command },
    report: { about: 'what stomped what; skips, holds, recoveries', load: async () => (await import('./report.js')).command },
  },
}

const COMMANDS: Record<string, Entry> = Object.assign({}, ...Object.values(GROUPS))

async function main(name: string | undefined, args: string[]): Promise<number> {
  if (name === 'help' && args[0] !== undefined) return main(args[0], ['--help'])
  if (name === undefined || name === 'help' || name === '--help' || name === '-h') {
    writeOut(overview())
    return name === undefined ? EXIT.usage : EXIT.done
  }
  if (name === '--version') {
    const { fs } = await import('../core/index.js')
    writeOut(
      `${(JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }).version}\n`,
    )
    return EXIT.done
  }
  const entry = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
  if (!entry) {
    writeErr(`lockpact: no command ${JSON.stringify(name)}; there are ${Object.keys(COMMANDS).join(', ')}\n`)
    return EXIT.usage
  }
  return start(await entry.load(), args)
}

async function start(command: Command, args: string[]): Promise<number> {
  let io = new Io(wantedBy(command, args))
  // What the library warns of are words, too.
  process.removeAllListeners('warning').on('warning', ({ message }) => io.warn(message))
  try {
    const { operands, values, rest } = parse(command, args)
    if (values['help'] === true) {
      writeOut(`${help(command)}\n`)
      return EXIT.done
    }
    io = new Io(values)
    if (io.emit === 'tool' || io.emit === 'hook') await (await import('./input.js')).addInput(command, io.emit, operands, values)
    const dir = text(values, 'dir')
    if (dir === '') throw usageError('--dir takes a folder')
    if (dir !== undefined) process.env['LOCKPACT_DIR'] = dir
    checkOperands(command, operands)
    return await command.run(operands, values, io, rest)
  } catch (error) {
    return io.fail(error)
  }
}

function overview(): string {
  const group = ([title, commands]: [string, Record<string, Entry>]) => [
    `${title}:`,
    ...Object.entries(commands).map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`),
    '',
  ]
  return [
    'usage: lockpact COMMAND …',
    '',
    'Lock files that scheduled agents can keep.',
    '',
    ...Object.entries(GROUPS).flatMap(group),
    'lockpact COMMAND --help shows its options, examples and exit status.',
    '',
  ].join('\n')
}

const [name, ...args] = process.argv.slice(2)
main(name, args).then(
  (status) => {
    process.exitCode = status
  },
  (error: unknown) => {
    writeErr(
      `lockpact: ${error instanceof Error ? error.message : String(error)} (this should not happen; please report it)\n`,
    )
    process.exitCode = EXIT.software
  },
)

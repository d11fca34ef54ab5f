#!/usr/bin/env node
import { checkOperands, type Command, EXIT, help, Io, parse, writeOut } from './command.js'

// One lazily loaded file per command: a cold start reads what it needs.
const COMMANDS: Record<string, { about: string; load: () => Promise<{ command: Command }> }> = {
  acquire: { about: 'take a lock that outlives this command; prints its token', load: () => import('./acquire.js') },
  run: { about: 'run a command while holding a slot, locks, or write intents', load: () => import('./run.js') },
  renew: { about: "make a lock's lease begin anew", load: () => import('./renew.js') },
  release: { about: 'give a lock back', load: () => import('./release.js') },
  status: { about: 'who holds what, since when, until when', load: () => import('./status.js') },
  sweep: { about: 'remove stale locks below a folder', load: () => import('./sweep.js') },
  break: { about: 'remove a lock by force', load: () => import('./break.js') },
  mcp: { about: 'serve all of this to agents that speak MCP', load: () => import('./mcp.js') },
}

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
    process.stderr.write(`lockpact: no command ${JSON.stringify(name)}; there are ${Object.keys(COMMANDS).join(', ')}\n`)
    return EXIT.usage
  }
  const { command } = await entry.load()
  let io = new Io({ json: args.includes('--json') })
  try {
    const { operands, values } = parse(command, args)
    if (values['help'] === true) {
      writeOut(`${help(command)}\n`)
      return EXIT.done
    }
    io = new Io(values)
    checkOperands(command, operands)
    return await command.run(operands, values, io)
  } catch (error) {
    return io.fail(error)
  }
}

function overview(): string {
  const rows = Object.entries(COMMANDS).map(([name, { about }]) => `  ${name.padEnd(8)} ${about}`)
  return [
    'usage: lockpact COMMAND …',
    '',
    'Lock files that scheduled agents can keep.',
    '',
    ...rows,
    '',
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
    process.stderr.write(
      `lockpact: ${error instanceof Error ? error.message : String(error)} (this should not happen; please report it)\n`,
    )
    process.exitCode = EXIT.software
  },
)

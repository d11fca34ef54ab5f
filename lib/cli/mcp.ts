import { resolve } from '../core/index.js'
import { serveStdio } from '../mcp/index.js'
import { type Command, text } from './command.js'

export const command: Command = {
  usage: 'mcp [options]',
  about:
    'Serves the Model Context Protocol on stdin and stdout, until stdin ends: claim, gate, declare and the other commands as tools, over the ' +
    'same files, for agents that speak MCP. What a tool gives outlives this server; it ends by its token, or its time.',
  operands: [0, 0],
  options: { dir: { value: 'DIR', about: 'the workspace, to which relative paths are relative (default: LOCKPACT_DIR, or the nearest above)' } },
  examples: ['claude mcp add lockpact -- npx lockpact mcp', 'lockpact mcp --dir ~/memory'],

  async run(_operands, values, io) {
    const dir = text(values, 'dir')
    if (dir !== undefined) process.env['LOCKPACT_DIR'] = resolve(dir)
    if (process.stdin.isTTY) io.say('waiting for messages on stdin, one line of JSON each; this is for programs')
    await serveStdio()
    return 0
  },
}

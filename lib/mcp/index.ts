/* The door of this room. */
import { fs } from '../core/index.js'
import { serve } from './rpc.js'
import { INSTRUCTIONS, TOOLS } from './tools.js'

/** Serves the Model Context Protocol on stdin and stdout, until stdin ends. */
export function serveStdio(): Promise<void> {
  const { version } = JSON.parse(fs.readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
  const server = { info: { name: 'lockpact', title: 'lockpact', version }, instructions: INSTRUCTIONS, tools: TOOLS }
  return serve(server, process.stdin, process.stdout)
}

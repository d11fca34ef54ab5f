/* The official conformance suite speaks HTTP: this puts `lockpact mcp` behind it. What HTTP adds (headers, sessions, origins) is not here. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Json, Peer } from '../mcp-peer.js'

const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId'

/** The address under which a server in `dir` answers. */
export async function bridge(dir: string): Promise<{ url: string; close(): Promise<unknown> }> {
  const peer = new Peer(dir)
  let last = 0

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'POST') return void response.writeHead(405).end()
    let body = ''
    for await (const part of request) body += String(part)
    const message: Json = JSON.parse(body)
    if (message.id === undefined) {
      peer.send(message)
      return void response.writeHead(202).end()
    }
    // Every connection has its own ids there; here there is one.
    const id = `bridge-${++last}`
    const back = (answer: Json) => JSON.stringify(answer).replaceAll(JSON.stringify(id), JSON.stringify(message.id))
    const answered = peer.ask(message.method, message.params, id)
    response.on('close', () => peer.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: id } }))
    if (message.method === 'subscriptions/listen') {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      peer.onOther = (other) => other.params?._meta?.[SUBSCRIPTION] === id && response.write(`event: message\ndata: ${back(other)}\n\n`)
    }
    const answer = await answered
    // The suite went away, and cancelled it.
    if (!answer) return void response.end()
    if (response.headersSent) return void response.end(`event: message\ndata: ${back(answer)}\n\n`)
    const status = answer.error === undefined ? 200 : answer.error.code === -32601 ? 404 : 400
    response.writeHead(status, { 'content-type': 'application/json' }).end(back(answer))
  }

  const server = createServer((request, response) => void serve(request, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () => {
    server.closeAllConnections()
    server.close()
    return peer.end()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, close }
}

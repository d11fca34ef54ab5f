/*
 * The text of a Markdown queue. An item is `- [ ] text`, claimed `- [~] text @job`, done `- [x] text @job`; every other line stays
 * as it is.
 */

export interface Item {
  mark: ' ' | '~' | 'x'
  text: string
  job: string | undefined
}

export function parseItem(line: string): Item | undefined {
  const [, mark, text, job] = /^- \[([ ~x])\] (.*?)(?: @([\w-]+))?$/.exec(line) ?? []
  return text === undefined ? undefined : { mark: mark as Item['mark'], text, job }
}

export function itemsIn(queue: string): Item[] {
  return queue.split('\n').flatMap((line) => parseItem(line) ?? [])
}

export function firstOpen(queue: string): string | undefined {
  return itemsIn(queue).find((item) => item.mark === ' ')?.text
}

export function claim(queue: string, text: string, job: string): string {
  return mapItems(queue, (item) => (item.text === text ? { mark: '~', text, job } : item))
}

export function tick(queue: string, text: string, job: string): string {
  return mapItems(queue, (item) => (item.text === text ? { mark: 'x', text, job } : item))
}

/** Opens what a job had claimed and not finished. */
export function reopen(queue: string, job: string): string {
  return mapItems(queue, (item) => (item.mark === '~' && item.job === job ? { mark: ' ', text: item.text, job: undefined } : item))
}

/** An item without its date and source. */
export function subject(item: string): string {
  return item.replace(/^[\d-]+: /, '').replace(/ \(source: [^()]*\)$/, '')
}

function mapItems(queue: string, change: (item: Item) => Item): string {
  const lines = queue.split('\n').map((line) => {
    const item = parseItem(line)
    return item ? format(change(item)) : line
  })
  return lines.join('\n')
}

function format({ mark, text, job }: Item): string {
  return `- [${mark}] ${text}${job === undefined ? '' : ` @${job}`}`
}

/** Prints the results as one aligned table, and the system calls below it. */
export function print({ machine, rows, calls }) {
  const { node, platform, cpu, cores, folder } = machine
  console.log(`node ${node}, ${platform}, ${cores} x ${cpu}, ${folder}\n`)
  console.log(table(['', 'median', 'least', 'ratio', 'bar', ''], rows.map(cells)))
  if (calls.length === 0) return
  console.log('\nsystem calls on files, descriptors, processes and signal handlers, of one warm operation:\n')
  const lines = calls.map(({ what, total, counts }) => [what, String(total), list(counts)])
  console.log(table(['', 'calls', 'which'], lines))
}

function cells({ what, ms, least, ratio, to, bar, isMet }) {
  return [
    what,
    ms === undefined ? '' : time(ms),
    least === undefined ? '' : time(least),
    ratio === undefined ? '' : `${ratio.toFixed(2)}x ${to}`,
    bar ?? '',
    isMet === undefined ? '' : isMet ? 'met' : 'MISSED',
  ]
}

const time = (ms) => (ms < 1 ? `${(ms * 1000).toFixed(1)} us` : `${ms.toFixed(2)} ms`)

const list = (counts) =>
  Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => (count === 1 ? name : `${count} ${name}`))
    .join(', ')

function table(head, lines) {
  const widths = head.map((title, column) => Math.max(...[head, ...lines].map((line) => line[column].length)))
  return [head, ...lines].map((line) => line.map((cell, column) => cell.padEnd(widths[column])).join('  ').trimEnd()).join('\n')
}

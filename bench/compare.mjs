// Compares xferd with what else moves files on this machine: the kernel alone, rsync to an rsync daemon, curl to nginx.
//
// All of them send the same random bytes over the loopback interface into the same file system, by turns: every contender
// once, then every contender again, for as many rounds as asked for. Before each turn the copies of the last one are removed,
// the disk has come to rest and the source is in the page cache; after it each copy is compared with the source. A process
// is timed as a whole, from before it is started until it has exited. Servers run already.
//
// How to read the tables, whose figures are medians of the rounds:
//   process s, process MB/s   the wall clock of the whole process, and the rate that this means
//   own MB/s                  the rate that a program reports: xferd from its first byte to its last acknowledged commit, the
//                             kernel's paths from their first connection to the end of their last process
//   of the ceiling            its own rate, or else its process's, over the ceiling. That is the median, too, of the best that
//                             the kernel's storing paths have reached in each round
//   times xferd's             how many times as long as `xferd push` it took, process against process: above 1 xferd is faster
//
// A peer that is not installed, or a load for which there is no space, is left out, and the report says so. The exit code is
// 0 if all copies of xferd's were right, whether or not the targets are met, and 2 for a wrong option.
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { FILE_BYTES, LOADS } from './loads.mjs'
import { killAll } from './processes.mjs'
import { race } from './race.mjs'
import { machine, markdown, summarize } from './report.mjs'

const HELP = `Compares xferd with the kernel alone, rsync and curl, and prints tables in Markdown.

  npm run bench:compare -- [--rounds N] [--only LOAD,…] [--json]

  --rounds N      turns of each contender, whose median counts; 3 unless given
  --only LOAD,…   of 1, 10, 50 (so many clients, each sending ${FILE_BYTES / 1e6} MB) and tree; all unless given
  --json          one JSON object instead of the tables
  --help          this text

Files go to the temporary folder, up to 25 GB of them at a time; TMPDIR=/elsewhere takes another disk.
All loads take about ten minutes on two cores, most of it for 50. Progress is told on stderr.`

const options = readOptions()
if (options.help) {
  console.log(HELP)
  process.exit()
}
const folder = realpathSync(mkdtempSync(join(tmpdir(), 'xferd-compare-')))
process.on('exit', () => {
  killAll()
  // What was killed just now may still be finishing a write.
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
})
process.on('SIGINT', () => process.exit(130))
process.on('SIGTERM', () => process.exit(143))

const { rounds, only, json } = options
const loads = []
for (const name of only) {
  const load = { name, ...LOADS[name] }
  loads.push(summarize(load, await race(load, { folder, rounds, tell: console.error })))
}
const report = { machine: machine(), rounds, loads }
console.log(json ? JSON.stringify(report) : markdown(report))

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: 'string', default: '3' },
        only: { type: 'string', default: '1,10,50,tree' },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    })
    const rounds = Number(values.rounds)
    const only = values.only.split(',')
    const unknown = only.find((name) => !Object.hasOwn(LOADS, name))
    if (!Number.isInteger(rounds) || rounds < 1)
      throw new Error(`--rounds ${values.rounds} is not a number of rounds`)
    if (unknown !== undefined)
      throw new Error(`--only ${unknown}: the loads are ${Object.keys(LOADS).join(', ')}`)
    return { ...values, rounds, only }
  } catch (error) {
    console.error(`${error.message}\nnpm run bench:compare -- --help tells the options.`)
    process.exit(2)
  }
}

// `npm run path-races`: a process makes a folder and a link that leads out of the root change places, and a file and such a link,
// while clients push, pull and ask through those names, and while others are pulled into a folder that is treated likewise.
// `--flips N` is how often.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { connect } from 'xferd'
import {
  folder,
  hasEnded,
  kill,
  options,
  REPOSITORY,
  report,
  skip,
  start,
  startServer,
  writeBytes,
} from './harness.mjs'

const NAME = 'path-races'
const SECRET = 'SECRET: this is outside\n'
const INSIDE = 'this is inside\n'
const FILES = ['one', 'two', 'deep/three', 'deep/four']
/** An operation that finds a name gone, or something else under it, is told so by one of these. */
const FITTING = [
  'OUTSIDE_ROOT',
  'LINK_ESCAPES',
  'NOT_FOUND',
  'NOT_A_FILE',
  'NOT_A_DIRECTORY',
  'DIRECTORY_NOT_EMPTY',
  'EXISTS',
  'SOURCE_CHANGED',
  'BUSY',
]

const settings = options({ flips: 100_000 })
if (process.platform !== 'linux') skip(NAME, 'this system has no call that exchanges two names')

await report(NAME, settings, async (tally) => {
  const here = folder()
  const root = folder()
  const outside = folder()
  const destination = folder()
  for (const path of [join(root, 'flip'), outside, join(root, 'tree/flip'), join(destination, 'tree/flip')])
    for (const name of FILES) put(join(path, name), path === outside ? SECRET : INSIDE)
  symlinkSync(outside, join(root, 'flop'))
  symlinkSync(outside, join(destination, 'tree/flop'))
  put(join(root, 'file'), INSIDE)
  symlinkSync(join(outside, 'one'), join(root, 'link'))
  for (const name of FILES) put(join(here, 'tree', name), INSIDE)
  writeBytes(join(here, 'large'), 1_000_000, 'large')
  writeBytes(join(here, 'resumable'), 9_000_000, 'resumable')
  const before = snapshot(outside)

  const server = await startServer(root, '--port', '0')
  const flipper = startFlipper(settings.flips, [
    [join(root, 'flip'), join(root, 'flop')],
    [join(destination, 'tree/flip'), join(destination, 'tree/flop')],
    [join(root, 'file'), join(root, 'link')],
  ])
  const outcomes = {}
  const lane = async (name, operation) => {
    let client = await connect(server.address)
    for (let round = 0; !hasEnded(flipper); round++) {
      tally.count(name)
      outcomes[name] ??= {}
      const counts = outcomes[name]
      try {
        const leaked = await operation(client, round)
        tally.check(name, 'root', leaked && `${leaked} was read`)
        counts.served = (counts.served ?? 0) + 1
      } catch (error) {
        const codes = error.receipt?.failures.map((failure) => failure.error.code) ?? [error.code]
        const wrong = codes.find((code) => !FITTING.includes(code))
        tally.check(name, 'failures', wrong && `${wrong}: ${error.stack}`)
        for (const code of new Set(codes)) counts[code] = (counts[code] ?? 0) + 1
        if (wrong === 'CONNECTION_LOST') client = await connect(server.address)
      }
    }
    await client.close()
  }
  const again = { ignoreTimes: true }
  const pulled = (path) => {
    const leaked = filesWith(path, SECRET)
    rmSync(path, { recursive: true, force: true })
    return leaked[0]
  }
  await Promise.all([
    lane('push a tree', (client, round) =>
      client.push(join(here, 'tree'), `flip/new-${round % 10}/`, again).then(() => {}),
    ),
    lane('push a file', (client) => client.push(join(here, 'large'), 'flip/large', again).then(() => {})),
    lane('push with --resume', (client) =>
      client.push(join(here, 'resumable'), 'flip/deep/resumable', { resume: true, ...again }).then(() => {}),
    ),
    lane('push with --checksum', async (client) => {
      // Nothing is to be found out about what is outside: whoever has the same would be told that it is there.
      const { unchanged } = await client.push(join(outside, 'two'), 'flip/two', {
        checksum: true,
        dryRun: true,
      })
      return unchanged > 0 && 'the digest of two'
    }),
    lane('pull a tree', async (client) => {
      const path = join(here, 'pulled-tree')
      const error = await client.pull('flip', path).then(
        () => undefined,
        (error) => error,
      )
      const leaked = pulled(path)
      if (error && !leaked) throw error
      return leaked
    }),
    lane('pull a file', async (client) => {
      const path = join(here, 'pulled-file')
      await client.pull('file', path)
      return pulled(path)
    }),
    lane('read a stream', async (client) => {
      let read = ''
      for await (const chunk of client.readStream('flip/deep/three')) read += chunk
      return read.includes(SECRET) && read
    }),
    lane('pull into it', (client) => client.pull('tree', `${destination}/`, again).then(() => {})),
    lane('list', async (client) => {
      const entries = await client.list('flip', { recursive: true })
      return entries.find(({ path, size }) => path === 'one' && size === SECRET.length)?.path
    }),
    lane('stat', async (client) => {
      const { size } = await client.stat('flip/one')
      return size === SECRET.length && 'its size'
    }),
    lane('make, rename, remove', async (client, round) => {
      await client.makeDir(`flip/made-${round}`)
      await client.rename(`flip/made-${round}`, `flip/renamed-${round}`)
      await client.remove(`flip/renamed-${round}`)
    }),
    lane('remove', async (client) => {
      await client.remove('flip/new-0', { recursive: true })
      await client.remove('flip/deep/four')
    }),
  ])
  const flips = await flipper.flips
  tally.count('all of it')
  const after = snapshot(outside)
  const changed = Object.keys({ ...before, ...after }).filter((name) => before[name] !== after[name])
  tally.check('all of it', 'root', changed.length > 0 && `changed outside: ${changed}`)
  tally.check('all of it', 'bounded', hasEnded(server) && `the server ended: ${server.complaints}`)
  await kill(server)
  return { flips, outcomes }
})

function startFlipper(flips, pairs) {
  const cargo = [
    'build',
    '--quiet',
    '--locked',
    '-p',
    'xferd-load',
    '--example',
    'flip',
    '--message-format=json',
  ]
  const built = spawnSync('cargo', cargo, { cwd: REPOSITORY, encoding: 'utf8', maxBuffer: 1 << 26 })
  if (built.status !== 0) throw new Error(`the flipper does not build: ${built.stderr}`)
  const messages = built.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  const { executable } = messages.find((message) => message.target?.name === 'flip' && message.executable)
  const flipper = start(executable, [`${flips}`, ...pairs.flat()], ['pipe', 'pipe', 'pipe'])
  flipper.flips = once(createInterface({ input: flipper.stdout }), 'line').then(([line]) => Number(line))
  return flipper
}

function put(path, content) {
  mkdirSync(join(path, '..'), { recursive: true })
  writeFileSync(path, content)
}

/** Everything below a folder and what would show a change to it: the time of the last change cannot be set back. */
function snapshot(path) {
  const names = ['.', ...readdirSync(path, { recursive: true })]
  return Object.fromEntries(
    names.map((name) => {
      const { mode, size, ino, ctimeNs } = lstatSync(join(path, name), { bigint: true })
      return [name, `${mode} ${size} ${ino} ${ctimeNs}`]
    }),
  )
}

/** The files at or below a path that hold `text`. */
function filesWith(path, text) {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (!stats || stats.isSymbolicLink()) return []
  if (stats.isDirectory()) return readdirSync(path).flatMap((name) => filesWith(join(path, name), text))
  return readFileSync(path, 'utf8').includes(text) ? [path] : []
}

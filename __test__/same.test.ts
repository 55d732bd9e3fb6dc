import { chmodSync, mkdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { address, pair, randomFile, sameContent, xferd } from './fixture.js'

const FILES = 20
const BYTES = (FILES * (FILES - 1)) / 2

function plant(tree: string): string {
  for (let index = 0; index < FILES; index++) randomFile(join(tree, `${index % 3}`, `${index}`), index)
  return tree
}

/** Changes the content and neither size nor time. */
function changeSecretly(path: string): void {
  const { mtimeNs } = statSync(path, { bigint: true })
  writeFileSync(
    path,
    readFileSync(path).map((byte) => byte ^ 1),
  )
  // Numbers have no room for nanoseconds: what was secret has to have a time that they can tell.
  if (mtimeNs % 1_000_000_000n !== 0n) throw new Error(`${path} has no whole second`)
  utimesSync(path, Number(mtimeNs / 1_000_000_000n), Number(mtimeNs / 1_000_000_000n))
}

test('a push and a pull of an unchanged tree transfer nothing, and tell so', async (t) => {
  const { client, here, root, server } = await pair(t)
  const tree = plant(join(here, 'tree'))
  t.is((await client.push(tree, 'tree')).unchanged, 0)
  const { filesReceived } = server.stats()
  const transfer = client.push(tree, 'tree')
  let last: { bytes: number; files: number; total: number | undefined } | undefined
  for await (const progress of transfer) last = progress
  t.like(await transfer, { files: 0, bytes: 0, directories: 0, unchanged: FILES, unchangedBytes: BYTES })
  t.like(last, { bytes: BYTES, total: BYTES, unchangedBytes: BYTES, files: FILES, totalFiles: FILES })
  t.is(server.stats().filesReceived, filesReceived)
  t.is(server.stats().errors, 0)

  mkdirSync(join(here, 'back'))
  await client.pull('tree', join(here, 'back/'))
  const { filesSent } = server.stats()
  t.like(await client.pull('tree', join(here, 'back/')), {
    files: 0,
    unchanged: FILES,
    unchangedBytes: BYTES,
  })
  t.is(server.stats().filesSent, filesSent)

  utimesSync(join(root, 'tree/1/4'), 1, 1)
  chmodSync(join(root, 'tree/1/7'), 0o711)
  t.like(await client.pull('tree', join(here, 'back/')), { files: 1, bytes: 4, unchanged: FILES - 1 })
  t.is(statSync(join(here, 'back/tree/1/7')).mode & 0o777, 0o711)
  t.like(await client.push(tree, 'tree'), { files: 1, bytes: 4, unchanged: FILES - 1 })
})

test('the command tells what is unchanged, and what of it to compare', async (t) => {
  const { here, root, server } = await pair(t)
  const tree = plant(join(here, 'tree'))
  const secret = join(tree, '2/8')
  utimesSync(secret, 1_000_000_000, 1_000_000_000)
  const push = (...flags: string[]) => xferd('push', tree, `${address(server)}/tree`, ...flags)
  t.is((await push()).code, 0)
  const told = await push()
  t.regex(told.stderr, /^pushed 0 files, 0 B; 20 unchanged$/m)
  changeSecretly(secret)
  for (const [flags, files] of [
    [[], 0],
    [['--checksum', '--dry-run'], 1],
    [['--ignore-times', '--dry-run'], FILES],
    [['-c'], 1],
    [['--checksum'], 0],
    [['-I'], FILES],
  ] as const) {
    const { stdout } = await push('--json', ...flags)
    const figures = JSON.parse(stdout)
    t.is(figures.files, files, flags.join(' '))
    t.is(figures.unchanged, FILES - files)
    t.is(figures.unchanged_bytes, BYTES - figures.bytes)
  }
  t.true(sameContent(secret, join(root, 'tree/2/8')))

  t.is((await push('-c', '-I')).code, 2)
})

test('contents cannot be compared if nothing is', async (t) => {
  const { client, here } = await pair(t)
  const source = randomFile(join(here, 'source'), 1)
  const error = await t.throwsAsync(() => client.push(source, 'x', { checksum: true, ignoreTimes: true }))
  t.like(error, { code: 'INVALID_ARGUMENT' })
})

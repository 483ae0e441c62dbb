// The PlayCanvas engine reads KHR_gaussian_splatting: node playcanvas_splats.mjs model.glb.
// Prints the columns it makes of a file as JSON; the engine sorts the splats as it likes.
import { readFileSync } from 'node:fs';

const source = 'playcanvas/build/playcanvas/src';
const glb = `${source}/framework/parsers`;
const { NullGraphicsDevice } = await import(
    `${source}/platform/graphics/null/null-graphics-device.js`
);
const { GlbParser } = await import(`${glb}/glb-parser.js`);
const { khrGaussianSplatting } = await import(`${glb}/glb/extensions/khr-gaussian-splatting.js`);

const file = readFileSync(process.argv[2]);
const data = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
const canvas = { width: 1, height: 1, addEventListener() {}, removeEventListener() {} };
GlbParser.parse(
    'model.glb', '', data, new NullGraphicsDevice(canvas), { loader: {} }, {},
    [khrGaussianSplatting],
    (error, result) => {
        if (error) throw error;
        const [{ properties }] = result.gsplats[0][0].gsplatData.elements;
        const columns = properties.map(p => [p.name, Array.from(p.storage)]);
        // The device's timers would keep node alive; a pipe must be empty before it ends.
        process.stdout.write(JSON.stringify(Object.fromEntries(columns)), () => process.exit(0));
    }
);

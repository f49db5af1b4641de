/**
 * @file The LibTorchs that `ip-adapter install-torch` knows by itself, from PyPI and pytorch.org. Each file was downloaded, and
 * had this SHA-256; the file for the CPU of x86-64 Linux was had from a copy of pytorch.org's index.
 */

export interface TorchArchive {
  url: string;
  /** In lower-case hexadecimal digits. */
  sha256: string;
}

const pypi = (path: string, sha256: string): TorchArchive => ({
  url: `https://files.pythonhosted.org/packages/${path}`,
  sha256,
});

/**
 * By platform, then by what LibTorch computes on. LibTorch of all is 2.13.0, but on arm64 Linux the last for the CPU alone on
 * PyPI is 2.10.0. A wheel for CUDA needs NVIDIA's libraries of the versions in its METADATA. The addon is built without CUDA
 * graphs and NCCL then: their headers need nvidia-cuda-crt and nvidia-cuda-cccl too.
 */
const builtIn: Readonly<Record<string, Readonly<Record<string, readonly TorchArchive[]>>>> = {
  'linux-x64': {
    cpu: [
      {
        url: 'https://download.pytorch.org/whl/cpu/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl',
        sha256: '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
      },
    ],
    cu130: [
      pypi(
        'f3/82/fea946351658e6534db52d2cc12bc53087cbf87f9440c5f180f367c1950b/torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl',
        '796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b',
      ),
      pypi(
        '3b/cd/154ca20c38269e05eff77c1464e6c1da89f50a6390b565e9d82e06bc11e1/nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_x86_64.whl',
        '37936a16db8fe4ac1f065c2139360608a543a09275cb1a1af612e08cfa065436',
      ),
      pypi(
        '33/6d/737d164b4837a9bbd202f5ae3078975f0525a55730fe871d8ed4e3b952b0/nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl',
        '4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8',
      ),
      pypi(
        'c3/68/483a78f5e8f31b08fb1bb671559968c0ca3a065ac7acabfc7cee55214fd6/nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
        'ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575',
      ),
      pypi(
        '2e/24/d1558f3b68b1d26e706813b1d10aa1d785e4698c425af8db8edc3dced472/nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
        '7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548',
      ),
      pypi(
        '6e/5e/edb9c0ae051602c3ccaffe424256463636d639e27d7f302dde9975ef9e7a/nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_x86_64.whl',
        '0c45dd8eeb50b603f07995b1b300c62ffe6a1980482b82b3bcf94a4ca9d49304',
      ),
      pypi(
        'a8/2f/7b57e29836ea8714f81e9898409196f47d772d5ddedddf1592eadb8ab743/nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
        '6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3',
      ),
      pypi(
        '3f/70/4f193de89a48b71714e74602ee14d04e4019ad36a5a9f20c425776e72cd6/nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
        '08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44',
      ),
      pypi(
        'a5/9f/be0a41ca4a4917abf5cb9ae0daff1a6060cc5de950aec0396de9f3b52bc5/nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl',
        '1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc',
      ),
      pypi(
        '5f/67/cba3777620cdacb99102da4042883709c41c709f4b6323c10781a9c3aa34/nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl',
        '0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112',
      ),
      pypi(
        'fa/18/623c77619c31d62efd55302939756966f3ecc8d724a14dab2b75f1508850/nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
        '2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b',
      ),
      pypi(
        '34/7d/2661f2fb3ac4302f3a246f5fc030213ac60c1fe0bce84f9783dbd831dbb7/nvidia_cusparselt_cu13-0.8.1-py3-none-manylinux2014_x86_64.whl',
        '786ce87568c303fadb5afcc7102d454cd3040d75f6f8626f5db460d1871f4dd0',
      ),
      pypi(
        '67/f4/58e4e91b6919367c7aafb8e36fce9aad1a3047e536bf7e2fd560927d3a4c/nvidia_nccl_cu13-2.29.7-py3-none-manylinux_2_18_x86_64.whl',
        'edd81538446786ec3b73972543e53bb43bcaf0bfc8ef76cb679fcc390ffe136d',
      ),
      pypi(
        '56/7a/123e033aaff487c77107195fa5a2b8686795ca537935a24efae476c41f05/nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl',
        '13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b',
      ),
      pypi(
        '3c/35/a9bf80a609e74e3b000fef598933235c908fcefcef9026042b8e6dfde2a9/nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl',
        '290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80',
      ),
      pypi(
        'c2/f3/d86c845465a2723ad7e1e5c36dcd75ddb82898b3f53be47ebd429fb2fa5d/nvidia_nvtx-13.0.85-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl',
        '4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4',
      ),
    ],
  },
  'linux-arm64': {
    cpu: [
      pypi(
        'cc/af/758e242e9102e9988969b5e621d41f36b8f258bb4a099109b7a4b4b50ea4/torch-2.10.0-cp312-cp312-manylinux_2_28_aarch64.whl',
        '5fd4117d89ffd47e3dcc71e71a22efac24828ad781c7e46aaaf56bf7f2796acf',
      ),
    ],
    cu130: [
      pypi(
        'df/a9/f6a2a4d763ff1df02e9a64c477029db614295bc9367f4131223791ccc243/torch-2.13.0-cp312-cp312-manylinux_2_28_aarch64.whl',
        '572df8be8ffb4599c88cbd6a0726f1f854f4da65d2e3c09f0e2c2283333cd6d4',
      ),
      pypi(
        'a7/a1/0bd24ee8c8d03adac032fd2909426a00c88f8c57961b1277ded97f91119f/nvidia_cublas-13.1.1.3-py3-none-manylinux_2_27_aarch64.whl',
        'b7a210458267ac818974c53038fbec2e969d5c99f305ab15c72522fa9f001dd5',
      ),
      pypi(
        '2a/2a/80353b103fc20ce05ef51e928daed4b6015db4aaa9162ed0997090fe2250/nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_aarch64.whl',
        '796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151',
      ),
      pypi(
        'b7/dc/6bb80850e0b7edd6588d560758f17e0550893a1feaf436807d64d2da040f/nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        'd27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b',
      ),
      pypi(
        '87/4f/17d7b9b8e285199c58ce28e31b5c5bbaa4d8271af06a89b6405258245de2/nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        'ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55',
      ),
      pypi(
        '56/c5/83384d846b2fd17c44bd499b36c75a45ed4f095fbbb2252294e89cea5c5c/nvidia_cudnn_cu13-9.20.0.48-py3-none-manylinux_2_27_aarch64.whl',
        'e31454ae00094b0c55319d9d15b6fa2fc50a9e1c0f5c8c80fb75258234e731e1',
      ),
      pypi(
        '8b/ae/f417a75c0259e85c1d2f83ca4e960289a5f814ed0cea74d18c353d3e989d/nvidia_cufft-12.0.0.61-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        '2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5',
      ),
      pypi(
        'ab/73/cc4a14c9813a8a0d509417cf5f4bdaba76e924d58beb9864f5a7baceefbf/nvidia_cufile-1.15.1.6-py3-none-manylinux_2_27_aarch64.whl',
        'bdc0deedc61f548bddf7733bdc216456c2fdb101d020e1ab4b88d232d5e2f6d1',
      ),
      pypi(
        '1e/72/7c2ae24fb6b63a32e6ae5d241cc65263ea18d08802aaae087d9f013335a2/nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_aarch64.whl',
        '133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a',
      ),
      pypi(
        'c8/c3/b30c9e935fc01e3da443ec0116ed1b2a009bb867f5324d3f2d7e533e776b/nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_aarch64.whl',
        '02c2457eaa9e39de20f880f4bd8820e6a1cfb9f9a34f820eb12a155aa5bc92d2',
      ),
      pypi(
        'f8/94/5c26f33738ae35276672f12615a64bd008ed5be6d1ebcb23579285d960a9/nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        '80bcc4662f23f1054ee334a15c72b8940402975e0eab63178fc7e670aa59472c',
      ),
      pypi(
        '46/e1/cdc1797eadf82d3a9a575a19b33fdc871a97edbec42c00b5b5e914f4aff4/nvidia_cusparselt_cu13-0.8.1-py3-none-manylinux2014_aarch64.whl',
        '4dca476c50bf4780d46cd0bfbd82e2bc10a08e4fef7950917ce8d7578d22a23f',
      ),
      pypi(
        '72/0d/daf50d44177ee0cbc7ff0a0c91eb5ff676c82be42f9a970bc7597f440c3a/nvidia_nccl_cu13-2.29.7-py3-none-manylinux_2_18_aarch64.whl',
        '674a12383e3c38a1bcccae7d4f3633b37852230b6047883cb2f4c2d1b36d9bf5',
      ),
      pypi(
        'ab/2c/93c5250e64df4f894f1cbb397c6fd71f79813f9fd79d7cd61de3f97b3c2d/nvidia_nvjitlink-13.0.88-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        'e931536ccc7d467a98ba1d8b89ff7fa7f1fa3b13f2b0069118cd7f47bff07d0c',
      ),
      pypi(
        'dc/0f/05cc9c720236dcd2db9c1ab97fff629e96821be2e63103569da0c9b72f19/nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        '6dc2a197f38e5d0376ad52cd1a2a3617d3cdc150fd5966f4aee9bcebb1d68fe9',
      ),
      pypi(
        'a8/64/3708a90d1ebe202ffdeb7185f878a3c84d15c2b2c31858da2ce0583e2def/nvidia_nvtx-13.0.85-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl',
        'cb7780edb6b14107373c835bf8b72e7a178bac7367e23da7acb108f973f157a6',
      ),
    ],
  },
  'darwin-arm64': {
    cpu: [
      pypi(
        'c4/3a/ed0f4d4d1dcde03bced7aac9a28e800abcdc0cbd06b6775044c9fbd877b7/torch-2.13.0-cp312-cp312-macosx_14_0_arm64.whl',
        '2fe228aba290d14b9f31b049be550dbd469c3fd3013d7a19705b30454da97027',
      ),
    ],
  },
};

/** Returns the archives of each backend ('cpu', 'cu130') that are built in for a platform. */
export function builtInTorch(
  platform: string = process.platform,
  arch: string = process.arch,
): Readonly<Record<string, readonly TorchArchive[]>> {
  return builtIn[`${platform}-${arch}`] ?? {};
}

/** Returns the backend to propose; undefined where none is built in for the platform. */
export function proposedTorch(
  hasGpu: boolean,
  platform: string = process.platform,
  arch: string = process.arch,
): string | undefined {
  const backends = Object.keys(builtInTorch(platform, arch));
  return (hasGpu ? backends.find((name) => name !== 'cpu') : undefined) ?? backends[0];
}

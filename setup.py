"""Package mmzeg: the wheel also holds configs, tools and model-index.yml as ``mmzeg/.mim``, where OpenMIM looks."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# The configs read the class lists by paths that are relative to them.
MIM_CONTENT = (
    'configs',
    'tools',
    'model-index.yml',
    'mmzeg/datasets/class_lists',
    'mmzeg/datasets/splits',
)
version = (ROOT / 'mmzeg/__init__.py').read_text().split("__version__ = '")[1].split("'")[0]
DEMO_PAGE = ['gradio>=6.31,<7']
ONNX = ['onnx', 'onnxruntime']


class BuildWithMim(build_py):
    """Build the package, with a copy of ``MIM_CONTENT``; an editable install gets links in the source tree."""

    def run(self) -> None:
        super().run()
        target = ROOT / 'mmzeg/.mim' if self.editable_mode else Path(self.build_lib, 'mmzeg/.mim')
        shutil.rmtree(target, ignore_errors=True)
        for name in MIM_CONTENT:
            source = ROOT / name
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            if self.editable_mode:
                (target / name).symlink_to(source, target_is_directory=source.is_dir())
            elif source.is_dir():
                shutil.copytree(source, target / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy2(source, target / name)
        # OpenMIM searches for a file of the name that it is given: these files let it find configs without ".py".
        (target / 'names').mkdir()
        for config in (ROOT / 'configs').glob('*.py'):
            (target / 'names' / config.stem).touch()


def long_description() -> str:
    """Return README.md without images (with captions) and links of the repository; a link becomes its text."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    text = re.sub(r'!\[[^]]*\]\((?!https?:)[^)]*\)(\n\n\*[^*]*\*\n)?', '', text)
    return re.sub(r'\[([^]]*)\]\((?!https?:)[^)]*\)', r'\1', text)


setup(
    name='mmzeg',
    version=version,
    description='Zero-shot segmentation (ZegFormer) as an MMSegmentation plugin',
    long_description=long_description(),
    long_description_content_type='text/markdown',
    author='mmzeg contributors',
    license='Apache-2.0',
    project_urls={'Paper': 'https://arxiv.org/abs/2112.07910'},
    keywords=['zero-shot', 'open-vocabulary', 'semantic segmentation', 'CLIP', 'MMSegmentation'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    packages=find_packages(include=['mmzeg', 'mmzeg.*']),
    package_data={
        'mmzeg': [
            'clip/prompts.json',
            'datasets/class_lists/*.json',
            'datasets/splits/*.json',
            'labelling/review.css',
            'labelling/review.js',
        ]
    },
    cmdclass=dict(build_py=BuildWithMim),
    python_requires='>=3.10,<3.13',
    # No torch, NumPy or OpenMMLab package: installing mmzeg must not change those that are installed.
    install_requires=['ftfy', 'packaging', 'prettytable>=3.12', 'regex', 'safetensors'],
    extras_require={
        'page': DEMO_PAGE,
        'onnx': ONNX,
        'test': ['pytest', 'pytest-xdist', 'ruff', 'mkdocs-material', 'mkdocstrings[python]', *DEMO_PAGE, *ONNX]
        + ['playwright', 'pillow-heif', 'seaborn', 'tensorboard', 'wandb'],
    },
)

from pathlib import Path

from setuptools import find_packages, setup

version = Path('mmzeg/__init__.py').read_text().split("__version__ = '")[1].split("'")[0]
DEMO_PAGE = ['gradio>=6.31,<7']
ONNX = ['onnx', 'onnxruntime']

setup(
    name='mmzeg',
    version=version,
    description='Zero-shot segmentation (ZegFormer) as an MMSegmentation plugin',
    license='Apache-2.0',
    packages=find_packages(include=['mmzeg', 'mmzeg.*']),
    package_data={'mmzeg': ['clip/prompts.json', 'datasets/splits/*.json', 'datasets/class_lists/*.json']},
    python_requires='>=3.10,<3.13',
    # No torch, NumPy or OpenMMLab package: installing mmzeg must not change those that are installed.
    install_requires=['ftfy', 'packaging', 'prettytable', 'regex', 'safetensors'],
    extras_require={
        'page': DEMO_PAGE,
        'onnx': ONNX,
        'test': ['pytest', 'pytest-xdist', 'ruff', 'mkdocs-material', 'mkdocstrings[python]', *DEMO_PAGE, *ONNX]
        + ['playwright', 'pillow-heif', 'seaborn', 'tensorboard', 'wandb'],
    },
)
